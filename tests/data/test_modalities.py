"""What names of real data sets, scanners and tools say of the modality."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path, PurePath

import pytest

from meddiffusers.data.modalities import (
    LABELS,
    MODALITIES,
    modality_in,
    recognize,
    recognize_path,
    without_ending,
    without_known_words,
)

TABLE = Path(__file__).with_name("modality_names.tsv")


def names() -> list[tuple[str, str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [(name, "" if modality == "-" else modality) for name, modality, _ in (line.split("\t") for line in lines)]


def test_the_table_is_large_and_without_repetition() -> None:
    table = names()
    assert len(table) >= 120
    assert len({name for name, _ in table}) == len(table)
    assert {modality for _, modality in table} == {"", *MODALITIES}


@pytest.mark.parametrize(("name", "modality"), names())
def test_names(name: str, modality: str) -> None:
    assert recognize(name).modality == modality, recognize(name)


def test_case_does_not_matter() -> None:
    for name, modality in names():
        if not any(one.islower() and next_.isupper() for one, next_ in pairwise(name)):
            assert modality_in(name.lower()) == modality_in(name.upper()) == modality, name


def test_a_hostile_name_takes_no_time() -> None:
    start = time.process_time()
    for name in ("brainmask" * 28 + "x", "t1" * 120, "_".join(["t1"] * 80), "a" * 255, "sub-" * 60):
        recognize(name)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("AX T1 FS POST", "t1, post"),
        ("p7_brainMask", "brainmask"),
        ("sub-01_ce-gd_T1w", "suffix t1w of a contrast agent"),
        ("T1_T2", "t1, t2: t1 or t2"),
        ("lesion_T1", "t1, lesion: t1 or labels"),
        ("T2*", "t2star: another kind of image"),
        ("Smith_scan", ""),
    ],
)
def test_the_evidence_is_told(name: str, evidence: str) -> None:
    assert str(recognize(name)) == evidence


def test_a_conflict_has_candidates_and_another_kind_of_image_has_none() -> None:
    assert recognize("pre_T1_gd").candidates == ("t1", "t1ce")
    assert recognize("PD_T2").candidates == ("pd", "t2")
    assert (recognize("T2_star").candidates, recognize("T2_star").silent) == ((), False)
    assert (recognize("scan 4").candidates, recognize("scan 4").silent) == ((), True)


@pytest.mark.parametrize(
    ("path", "modality"),
    [
        ("data/t1/p7.nii.gz", "t1"),
        ("data/t1/p7_t2.nii.gz", "t2"),
        ("data/t1/p7_T2_star.nii.gz", ""),  # what the name says outranks the folder, also if it is no modality
        ("data/anat/sub-01_T2starw.nii.gz", ""),
        ("data/labels/p7_t1.nii.gz", LABELS),
        ("data/labelsTr/case_001.nii.gz", LABELS),
        ("data/lesion_masks/p7_flair.nrrd", LABELS),
        ("data/tumor/p7.nii.gz", ""),  # a class, not its outlines
        ("data/tumor_segmentation_challenge/p7_t1.nii.gz", "t1"),
        ("data/T1_and_T2/p7.nii.gz", ""),
        ("t1/p7.nii.gz", ""),  # the folder of the data set is not asked
    ],
)
def test_folders_tell_where_names_are_silent(path: str, modality: str) -> None:
    folder = PurePath("t1" if path.startswith("t1") else "data")
    assert recognize_path(PurePath(path), folder).modality == modality


def test_endings_of_scans_are_no_words() -> None:
    assert without_ending("aparc.a2009s+aseg.nii.gz") == "aparc.a2009s+aseg"
    assert without_ending("t1.NII") == "t1"
    assert without_ending("5.000000-AX T1") == "5.000000-AX T1"


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("p7_t1_ce", "p7"),
        ("p7_T2_to_T1", "p7"),
        ("p7_T1_o_KM", "p7"),
        ("p7_T1_mit_KM", "p7"),
        ("o_7_T1", "o_7"),
        ("p7_t1w_brain", "p7"),
        ("p7_brain_mask", "p7"),
        ("T1-p7", "p7"),
        ("sub-01_ses-2_ce-gd_T1w", "sub-01"),
        ("scan 4", "scan_4"),
        ("p_2_T1", "p_2"),
        ("flair", ""),
    ],
)
def test_the_rest_of_a_name_is_the_subject(name: str, subject: str) -> None:
    assert without_known_words(name) == subject
