"""What tags of a DICOM image say of a contrast agent: its name, volume, dose and route."""

from __future__ import annotations

from typing import Any

from meddiffusers.data.contrast_agent import AgentSaid, agent_named
from meddiffusers.data.contrast_words import word_set
from meddiffusers.data.io.dicom_modality.tags import number_in, values_in
from meddiffusers.data.modality_words import words_in

NAMES = ("ContrastBolusAgent", "ContrastBolusIngredient")
AMOUNTS = ("ContrastBolusVolume", "ContrastBolusTotalDose")
INTO_VEINS = word_set("iv intravenous vein venous intravascular bolus i v")
# By these routes an agent does not enhance tissue.
ELSEWHERE = word_set("oral orally mouth po os rectal rectum enema topical")


def agent_of(dataset: Any) -> AgentSaid:
    """What the tags say, which are listed; a named agent of volume 0 and an unusual route are doubtful."""
    route = {word for text in _routes(dataset) for word in words_in(text)}
    if route & ELSEWHERE:
        return AgentSaid()
    given, denied = _by_name(dataset)
    amounts = {keyword: amount for keyword in AMOUNTS if (amount := number_in(dataset, keyword)) is not None}
    given += [keyword for keyword, amount in amounts.items() if amount > 0]
    doubts = [f"{keyword} 0" for keyword, amount in amounts.items() if amount == 0 and given]
    doubts += ["ContrastBolusRoute"] if route and given and not route & INTO_VEINS else []
    return AgentSaid(hinted=(*given, *doubts)) if doubts else AgentSaid(tuple(given), tuple(denied))


def _by_name(dataset: Any) -> tuple[list[str], list[str]]:
    """The tags that name an agent, and those that deny one."""
    said = {keyword: [agent_named(str(each)) for each in values_in(dataset, keyword)] for keyword in NAMES}
    agents = [agent_named(str(each.get("CodeMeaning") or "agent")) for each in _agents(dataset)]
    administered = [str(each).upper() for each in values_in(dataset, "ContrastBolusAgentAdministered")]
    said |= {
        "ContrastBolusAgentSequence": agents,
        "ContrastBolusAgentAdministered": [each == "YES" for each in administered if each in ("YES", "NO")],
    }
    given = [keyword for keyword, answers in said.items() if True in answers]
    return given, [keyword for keyword, answers in said.items() if answers and {*answers} == {False}]


def _agents(dataset: Any) -> list[Any]:
    return list(dataset.get("ContrastBolusAgentSequence") or [])


def _routes(dataset: Any) -> list[str]:
    codes = [
        code
        for holder in (dataset, *_agents(dataset))
        for code in holder.get("ContrastBolusAdministrationRouteSequence") or []
    ]
    texts = [*values_in(dataset, "ContrastBolusRoute"), *(code.get("CodeMeaning") or "" for code in codes)]
    return [str(text) for text in texts]
