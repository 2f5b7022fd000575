"""The one rule by which data are split into train and test: by subject.

The subject is a column named subject, patient or participant, in any spelling (`patient_id`, `Subject ID`,
`PatientID`); several such columns must agree. Without one, each image counts as a subject of its own, and a warning
says so. Names that differ in case, leading zeros or visit alone are in one split. Test subjects are chosen by a hash
of their names, so that more subjects change few of the others.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import datasets
import numpy as np

from meddiffusers.datasets.subjects.names import canonical, without_visits
from meddiffusers.utils.text import some_of

_OWNERS = ("subject", "subj", "patient", "participant", "person")
_ENDINGS = ("", "id", "ids", "no", "number", "name", "code", "s")

logger = logging.getLogger(__name__)


def subject_columns(columns: Iterable[str]) -> list[str]:
    """The columns that name the subject, in any known spelling; the first is to be used."""
    plain = [(re.sub(r"[^a-z]", "", column.lower()), column) for column in columns]
    known = (owner + ending for owner in _OWNERS for ending in _ENDINGS)
    return [column for name in known for spelling, column in plain if spelling == name]


def subject_column(table: Mapping[str, Sequence[Any]], source: str) -> str | None:
    """The column of a table that names the subject; None if there is none.

    Args:
        table: values by column, at least of those in `subject_columns`.
        source: for messages.

    Raises:
        ValueError: several columns name subjects, and they do not divide the rows alike.
    """
    names = subject_columns(table)
    values = {name: [canonical(str(value)) for value in table[name]] for name in names}
    counts = {name: len({*column}) for name, column in values.items()}
    for one, other in combinations(names, 2):
        if not counts[one] == counts[other] == len({*zip(values[one], values[other], strict=True)}):
            kept = min((one, other), key=lambda name: counts[name])
            raise ValueError(
                f"{source} has the columns {one} (of {counts[one]} values) and {other} (of {counts[other]}), which do "
                f"not divide its rows alike; expected one column of subjects. Keep the one that names persons, "
                f"probably {kept}, and rename the other."
            )
    return names[0] if names else None


def check_fraction(test_fraction: float) -> None:
    """Raise ValueError unless the fraction leaves subjects for training."""
    if isinstance(test_fraction, str) or not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction!r}; expected at least 0 and less than 1.")


def select_test_subjects(subjects: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Select the test subjects.

    Raises:
        ValueError: fewer than two subjects to split.
    """
    if fraction == 0:
        return set()
    spellings = defaultdict[str, set[str]](set)
    for name in subjects:
        spellings[canonical(without_visits(name))].add(name)
    if len(spellings) < 2:
        raise ValueError(
            f"One subject ({', '.join(*spellings.values())}) cannot be split in two; set test_fraction=0 to have train "
            "alone."
        )
    ordered = sorted(map(sorted, spellings.values()), key=lambda names: _digest(seed, names[0]))
    if same := [" and ".join(names) for names in ordered if len(names) > 1]:
        logger.warning(
            "%s count as one subject each in the split: they differ in spelling or visit alone.", some_of(same)
        )
    return {*chain(*ordered[: min(max(1, round(fraction * len(ordered))), len(ordered) - 1)])}


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def subjects_of(split: datasets.Dataset, source: str, name: str = "train") -> list[str]:
    """The subject of each row: the column of subjects as text, or, without one, the split and the row's number.

    Args:
        split: rows.
        source: name of the data set, for messages.
        name: of the split.

    Raises:
        ValueError: rows without a subject although there is a column.
    """
    names = subject_columns(split.column_names)
    column = subject_column({name: split[name][:] for name in names}, source)
    if column is None:
        return [f"{name}-{index}" for index in range(len(split))]
    values = split[column][:]
    empty = [str(index) for index, value in enumerate(values) if str(value).strip() in ("", "nan", "None")]
    if empty:
        raise ValueError(
            f"{source} has rows without {column}: {some_of(empty)}; expected whose image each is, as the data are "
            "split by it. Fill the column, or remove it."
        )
    return [str(int(value) if isinstance(value, float) and value.is_integer() else value).strip() for value in values]


def split_by_subject(
    rows: datasets.Dataset, subjects: Sequence[str], test_fraction: float, seed: int
) -> datasets.DatasetDict:
    """Divide rows into train and test, no subject in both; ValueError if there are fewer than two subjects."""
    test = select_test_subjects(subjects, test_fraction, seed)
    held_out = np.array([subject in test for subject in subjects])
    return datasets.DatasetDict(
        train=rows.select(np.flatnonzero(~held_out)), test=rows.select(np.flatnonzero(held_out))
    )


def warn_of_split(data: Mapping[str, datasets.Dataset], source: str) -> None:
    """Log what a split cannot promise: nothing tells the subjects, or some are in several of the set's own splits."""
    if not any(subject_columns(split.column_names) for split in data.values()):
        if len(data) == 1:
            logger.warning(
                "%s has no column of subjects: each image counts as one. If a person has several images, add a column "
                "subject, so that no person is in both splits.",
                source,
            )
        return
    found = {name: {*subjects_of(split, source, name)} for name, split in data.items()}
    shared = {one for own, theirs in combinations(found.values(), 2) for one in own & theirs}
    if shared:
        logger.warning(
            "%s: %d subjects are in several of its splits (%s): what is measured on them was seen in training.",
            source,
            len(shared),
            some_of(shared),
        )
