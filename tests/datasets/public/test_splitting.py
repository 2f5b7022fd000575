"""The rule by which all data are split."""

from __future__ import annotations

import datasets
import pytest

from meddiffusers.datasets.public.splitting import split_by_subject, subject_column, subjects_of


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["image", "subject"], "subject"),
        (["Subject ID", "image"], "Subject ID"),
        (["subject_id"], "subject_id"),
        (["PatientID"], "PatientID"),
        (["patient"], "patient"),
        (["PATIENT_NAME"], "PATIENT_NAME"),
        (["participant_id"], "participant_id"),
        (["patient", "subject"], "subject"),  # the first word of the rule counts
        (["subject_age", "image_id", "object"], None),
        ([], None),
    ],
)
def test_the_column_of_subjects_is_known_in_any_spelling(columns: list[str], found: str | None) -> None:
    assert subject_column(columns) == found


def test_subjects_are_texts_and_numbers_are_not_shortened() -> None:
    rows = datasets.Dataset.from_dict({"patient": [1234567.0, 1234568.0, 3.0]})
    assert subjects_of(rows, "set") == ["1234567", "1234568", "3"]
    assert subjects_of(datasets.Dataset.from_dict({"a": [1, 2]}), "set", "train") == ["train-0", "train-1"]
    with pytest.raises(ValueError, match=r"set has rows without patient: 1; expected whose image each is"):
        subjects_of(datasets.Dataset.from_dict({"patient": ["a", None]}), "set")


def test_no_subject_is_in_both_splits() -> None:
    subjects = [f"p{index % 7}" for index in range(50)]
    data = split_by_subject(datasets.Dataset.from_dict({"subject": subjects}), subjects, 0.3, seed=1)
    train, test = ({*split["subject"]} for split in data.values())
    assert (len(train), len(test), train & test) == (5, 2, set())
    assert len(data["train"]) + len(data["test"]) == 50
