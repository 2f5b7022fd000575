"""Names and label ids of BraTS by year: which folder is a case, which file is what, and which id is enhancing tumour.

| years | case | files | enhancing |
|---|---|---|---|
| 2017–2019 | Brats18_TCIA01_101_1, BraTS19_2013_10_1 | …_t1, _t1ce, _t2, _flair, _seg | 4 |
| 2020, 2021 | BraTS20_Training_001, BraTS2021_00000 | the same | 4 |
| since 2023 | BraTS-GLI-00000-000; MEN, MET, PED, SSA … | …-t1n, -t1c, -t2w, -t2f, -seg | 3 |

The last number of a case is that of a visit, where it has one: all visits are one subject. Ids 1 and 2 are necrosis, or
all that does not enhance, and oedema in all years. Since 2024 cases of gliomas after treatment (visits from 100 on)
have 4 for a resection cavity, which is no tumour.

Since 2024 PED has other ids, 1 enhancing, 2 and 3 not enhancing and cystic, 4 oedema, under the names of 2023. A case
with a 4 is refused, and with it all of PED in its folder; so are cases below a folder that is named for such a year.
Where neither tells, the ids are read as those of 2023, which a note says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.scan import Scan

ENHANCING, CAVITY = "enhancing tumour", "resection cavity"
UNTIL_2021 = {0: "background", 1: "necrotic and non-enhancing core", 2: "oedema", 4: ENHANCING}
SINCE_2023 = {0: "background", 1: "necrotic and non-enhancing core", 2: "oedema", 3: ENHANCING}
AFTER_TREATMENT = {**SINCE_2023, 4: CAVITY}
FIRST_VISIT_AFTER_TREATMENT = 100

FILES = {  # what stands behind the last "_" or "-" of a file's name
    "t1": "t1n?",
    "t1ce": "t1ce?",
    "t2": "t2w?",
    "flair": "flair|t2f",
    "seg": "seg|segm",  # the mask of subject 355 of 2020 is named W39_1998.09.19_Segm.nii
}
# A folder such as BraTS-PEDs2024_Training.
_PEDIATRIC_SINCE_2024 = re.compile(r".*(brats|ped).*20(2[4-9]|[3-9]\d)(?!\d).*", re.IGNORECASE)
_CASES = (
    r"(?P<subject>brats1[789]_\w+)_\d+",
    r"(?P<subject>brats20_(training|validation)_\d+)",
    r"(?P<subject>brats2021_\d+)",
    r"(?P<subject>brats-(?P<task>[a-z]+)-\d+)(-(?P<visit>\d+))?",
)


@dataclass(frozen=True)
class Case:
    """A visit of a subject.

    Attributes:
        name: of its folder.
        subject: the name without the visit.
        labels: names of the ids that its mask may have.
        has_mask: whether its name says that a mask belongs to it; None if it does not tell.
    """

    name: str
    subject: str
    labels: dict[int, str]
    has_mask: bool | None

    @property
    def is_pediatric(self) -> bool:
        """Whether it is of BraTS-PED, whose names do not tell which ids its mask has."""
        return self.name.upper().startswith("BRATS-PED")

    @property
    def enhancing(self) -> int:
        """The id of enhancing tumour."""
        return next(label for label, name in self.labels.items() if name == ENHANCING)


def case_of(name: str) -> Case | None:
    """The case that a folder is named for; None if it is named for none."""
    for pattern in _CASES:
        if match := re.fullmatch(pattern, name, re.IGNORECASE):
            parts = {"task": "", "visit": "", **{key: value or "" for key, value in match.groupdict().items()}}
            old = not parts["task"]
            treated = parts["task"].upper() == "GLI" and int(parts["visit"] or 0) >= FIRST_VISIT_AFTER_TREATMENT
            labels = UNTIL_2021 if old else AFTER_TREATMENT if treated else SINCE_2023
            known = "training" in name.lower() if name.lower().startswith("brats20_") else None
            return Case(name, match["subject"], labels, known)
    return None


def has_pediatric_ids_of_2024(case: Case, folder: Path, top: Path) -> bool:
    """Whether `top`, or a folder between it and the case's, says that the ids of a pediatric case are not of 2023."""
    names = (top.resolve().name, *folder.relative_to(top).parts[:-1])
    return case.is_pediatric and any(map(_PEDIATRIC_SINCE_2024.fullmatch, names))


def cases_in(folder: Path) -> dict[str, list[Path]]:
    """Folders at any depth, including `folder` itself, that are named for a case; by name, sorted."""
    found: dict[str, list[Path]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        hidden = path != folder and any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and case_of(path.name) and path.is_dir():
            found.setdefault(path.name, []).append(path)
    return dict(sorted(found.items()))


def same_ids(mask: Scan, name: str) -> Scan:
    """Convert the mask of a case to the ids 1 necrosis, 2 oedema and 4 enhancing tumour; a resection cavity becomes 0.

    Args:
        mask: label map of one channel.
        name: of the case.

    Raises:
        ValueError: an id that the case's name does not allow.
    """
    case = case_of(name)
    if case is None:
        raise ValueError(f"{name} is no case of BraTS; expected a name such as BraTS20_Training_001.")
    ids = to_label_ids(mask.array, mask.source or name)
    if odd := sorted({*np.unique(ids).tolist()} - {*case.labels}):
        raise ValueError(f"{mask.source or name}: {unexpected(odd, case.labels)}")
    new = np.zeros(max(case.labels) + 1, np.uint8)
    for label, text in case.labels.items():
        new[label] = {ENHANCING: 4, CAVITY: 0}.get(text, label)
    return mask.like(new[ids], mask.modality)


def unexpected(odd: list[float], allowed: dict[int, str]) -> str:
    """What to say of label ids that a mask should not have."""
    named = ", ".join(f"{label} {name}" for label, name in allowed.items())
    return (
        f"label values {odd[:5]}; expected only {sorted(allowed)} ({named}), which its name says. Give it the name of "
        "the year it is from, or convert its ids."
    )
