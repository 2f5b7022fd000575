"""File names of the Brain Imaging Data Structure: key-value pairs joined by "_", and a suffix that names the image."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from meddiffusers.data.contrast_agent import AgentSaid, agent_in, agent_named
from meddiffusers.data.contrast_words import ENHANCED, POST
from meddiffusers.data.modality_words import LABELS, PLAIN, words_in

_KEYS = frozenset(
    [
        "sub",
        "ses",
        "task",
        "acq",
        "ce",
        "trc",
        "rec",
        "dir",
        "run",
        "mod",
        "echo",
        "flip",
        "inv",
        "mt",
        "part",
        "recording",
        "proc",
        "hemi",
        "space",
        "split",
        "desc",
        "stat",
        "label",
        "res",
        "den",
        "atlas",
        "seg",
        "cohort",
        "from",
        "to",
        "mode",
    ]
)
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")
SUFFIXES = {
    **dict.fromkeys(("t1w", "unit1", "inplanet1"), "t1"),
    **dict.fromkeys(("t2w", "inplanet2"), "t2"),
    **{name: name for name in ("flair", "dwi", "ct")},
    "pdw": "pd",
    **dict.fromkeys(("dseg", "mask", "roi", "defacemask", "msk"), LABELS),
    # Images that are none of this project's modalities.
    **dict.fromkeys(
        [
            "t2starw",
            "t1map",
            "t2map",
            "t2starmap",
            "r1map",
            "r2map",
            "r2starmap",
            "pdmap",
            "mtrmap",
            "mtsat",
            "pdt2",
            "t1rho",
            "probseg",
            "bold",
            "boldref",
            "sbref",
            "cbv",
            "asl",
            "m0scan",
            "epi",
            "phase",
            "phase1",
            "phase2",
            "phasediff",
            "magnitude",
            "magnitude1",
            "magnitude2",
            "fieldmap",
            "angio",
            "pet",
            "xfm",
            "mp2rage",
            "mese",
            "megre",
            "mpm",
            "vfa",
            "irt1",
            "mts",
        ],
        "",
    ),
}


@dataclass(frozen=True)
class BidsName:
    """Parts of a file name.

    Attributes:
        entities: values by key, such as {"sub": "01", "ce": "gadolinium"}.
        suffix: the part that is no entity, in lower case, if it is one, ends the name, and the name has a subject.
        rest: the parts that are no entities, joined.
    """

    entities: dict[str, str] = field(default_factory=dict)
    suffix: str = ""
    rest: str = ""

    @property
    def said_of_image(self) -> list[str]:
        """Labels of users' own choice that describe the image: of acquisition, reconstruction and processing."""
        return [self.entities[key] for key in ("acq", "rec", "proc", "desc") if key in self.entities]

    @property
    def agent(self) -> AgentSaid:
        """What `ce-` and the labels of users' own choice say of a contrast agent.

        "post" and "enhanced" alone are unclear there, and say nothing of a session: it is before or after anything.
        """
        given, denied, hinted = list[str](), list[str](), list[str]()
        for value in self.said_of_image:
            said = agent_in(["ce" if word in PLAIN["t1ce"] else word for word in words_in(value)])
            (given if {*said.given} - ENHANCED - {POST} or said.conflicts else hinted).extend(said.given)
            denied += said.denied
            hinted += said.hinted
        session = agent_in(words_in(self.entities.get("ses", "")))
        given += {*session.given} - ENHANCED - {POST}
        denied += {*session.denied} & {"without contrast"}
        if "ce" in self.entities:
            {True: given, False: denied, None: hinted}[agent_named(self.entities["ce"])].append("ce-")
        return AgentSaid(tuple(given), tuple(denied), tuple(hinted))

    @property
    def another_image(self) -> str:
        """The entity by which the image is another one than its suffix says; "" if there is none."""
        if "inv" in self.entities and self.suffix == "mp2rage":
            return "inv- of mp2rage"
        if "stat" in self.entities or self.entities.get("mt", "off").lower() == "on":
            return "stat-" if "stat" in self.entities else "mt-on"
        return "" if self.entities.get("part", "mag").lower() == "mag" else "part-"


def parse_bids(text: str) -> BidsName:
    """Parse a file name without its ending; a name without key-value pairs is all rest."""
    entities, rest = dict[str, str](), []
    for part in text.split("_"):
        pair = _ENTITY.fullmatch(part)
        key, value = (pair[1].lower(), pair[2]) if pair else ("", "")
        named = key == "ce" and any(word in spellings for spellings in PLAIN.values() for word in words_in(value))
        if key in _KEYS and not named:
            entities[key] = value
        else:
            rest.append(part)
    suffix = rest[0].lower() if len(rest) == 1 and "sub" in entities and text.endswith(rest[0]) else ""
    return BidsName(entities, suffix, "_".join(rest))
