"""Whether words say that a contrast agent was given, deny it, or leave it open."""

from __future__ import annotations

import pytest

from meddiffusers.data.contrast_agent import AgentSaid, agent_in, agent_named
from meddiffusers.data.modality_words import words_in

DENIED = ("without contrast",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("T1", AgentSaid()),
        ("T1 post gd", AgentSaid(given=("post", "gd"))),
        ("T1 sans injection de produit de contraste", AgentSaid(denied=DENIED * 2)),
        ("T1 KM-frei", AgentSaid(denied=DENIED)),
        ("T1 contrast: no", AgentSaid(denied=DENIED)),
        ("T1 no fat saturation, gd", AgentSaid(given=("gd",))),  # the negation does not reach it
        ("T1 vor OP mit KM", AgentSaid(given=("km",))),
        ("T1 post biopsy", AgentSaid()),
        ("T1 post 5 min", AgentSaid(given=("post",))),
        ("T1 post 5 weeks", AgentSaid(hinted=("post",))),
        ("T1 post Smith", AgentSaid(hinted=("post",))),
        ("T1 high contrast", AgentSaid()),
        ("T1 edge enhanced", AgentSaid()),
        ("T1 arterial", AgentSaid(hinted=("arterial",))),
        ("T1 native", AgentSaid(denied=("native",))),
    ],
)
def test_words_are_interpreted_by_those_beside_them(text: str, said: AgentSaid) -> None:
    assert agent_in(words_in(text)) == said


@pytest.mark.parametrize(
    "text", ["mit und ohne KM", "avant/après injection", "W/WO contrast", "Gd +/-", "pre and post"]
)
def test_two_scans_conflict(text: str) -> None:
    assert agent_in(words_in(text)).conflicts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Gadovist 7.5 ml", True),
        ("gadolinium", True),
        ("sabine", True),  # what stands there, names one
        ("NONE", False),
        ("n/a", False),
        ("placebo", False),
        ("ohne KM", False),
        ("oral contrast", False),
        ("", None),
        ("?", None),
        ("unknown", None),
        ("pre and post", None),
    ],
)
def test_a_tag_names_an_agent_or_none_or_does_not_tell(text: str, answer: bool | None) -> None:
    assert agent_named(text) is answer
