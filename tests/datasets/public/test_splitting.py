"""The rule by which all data are split."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from meddiffusers.datasets.public.splitting import (
    check_fraction,
    select_test_subjects,
    split_by_subject,
    subject_column,
    subjects_of,
)


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
        (["patient", "subject"], "subject"),  # the first word of the rule counts, if both agree
        (["subject_age", "image_id", "object"], None),
        ([], None),
    ],
)
def test_the_column_of_subjects_is_known_in_any_spelling(columns: list[str], found: str | None) -> None:
    assert subject_column({name: ["p1", "p2"] for name in columns}, "set") == found


def test_two_columns_of_subjects_have_to_agree() -> None:
    same = {"image": [1, 2, 3], "subject": ["a", "a", "b"], "patient_id": [7, 7, 8]}
    assert subject_column(same, "set") == "subject"
    visits = datasets.Dataset.from_dict({"subject": ["a1", "a2", "b1"], "patient_id": ["a", "a", "b"]})
    with pytest.raises(
        ValueError, match=r"set has the columns subject .* and patient_id .*probably patient_id, and ren"
    ):
        subjects_of(visits, "set")


@pytest.mark.parametrize(
    "pair",
    [("007", "7"), ("P1", "p1"), ("p-1", "P_01"), (" p1", "p1"), ("p1_visit1", "p1_visit2"), ("p1_20200101", "P01")],
)
def test_spellings_of_one_subject_are_in_one_split(pair: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(8):
        test = select_test_subjects([*pair, "other", "third"], 0.4, seed)
        assert len(test & {*pair}) in (0, 2)
    assert "count as one subject each in the split" in caplog.text
    with pytest.raises(ValueError, match="One subject"):
        select_test_subjects(pair, 0.5, 0)


@pytest.mark.parametrize("fraction", ["0.2", 1.0, -0.1, float("nan")])
def test_fractions_that_leave_nothing_are_refused(fraction: Any) -> None:
    with pytest.raises(ValueError, match=r"test_fraction=.*; expected at least 0 and less than 1"):
        check_fraction(fraction)


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
