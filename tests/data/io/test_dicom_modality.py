"""Tags of DICOM outrank texts; of texts only known words are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from meddiffusers.data.io.dicom_modality import modality_of

SPIN = {"ScanningSequence": ["SE"]}
T1_TIMES: dict[str, Any] = {**SPIN, "EchoTime": 12, "RepetitionTime": 550}
T2_TIMES: dict[str, Any] = {**SPIN, "EchoTime": 95, "RepetitionTime": 4500}
PD_TIMES: dict[str, Any] = {**SPIN, "EchoTime": 15, "RepetitionTime": 3000}
FLAIR_TIMES: dict[str, Any] = {
    "ScanningSequence": ["SE", "IR"],
    "EchoTime": 90,
    "RepetitionTime": 9000,
    "InversionTime": 2500,
}
MPRAGE_TIMES: dict[str, Any] = {
    "ScanningSequence": ["GR", "IR"],
    "EchoTime": 3,
    "RepetitionTime": 2300,
    "InversionTime": 900,
}
GRADIENT: dict[str, Any] = {"ScanningSequence": ["GR"], "EchoTime": 20, "RepetitionTime": 600}


def recognized(text: str, path: str = "series", **tags: Any) -> tuple[str, str]:
    dataset = Dataset()
    dataset.Modality = "MR"
    dataset.SeriesDescription = text
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    found = modality_of(dataset, Path(path))
    return found.modality, found.evidence


@pytest.mark.parametrize(
    ("text", "tags", "modality"),
    [
        ("AX T1 FS POST", {}, "t1ce"),
        ("", T1_TIMES, "t1"),
        ("", T2_TIMES, "t2"),
        ("", PD_TIMES, "pd"),
        ("", FLAIR_TIMES, "flair"),
        ("", {**FLAIR_TIMES, "ScanningSequence": ["EP", "IR"]}, ""),  # labelled spins, or prepared diffusion
        ("", MPRAGE_TIMES, "t1"),
        ("", GRADIENT, ""),
        ("Ax FLAIR", {**T1_TIMES, "ScanningSequence": ["SE", "IR"], "InversionTime": 750}, "t1"),  # T1-FLAIR
        ("Ax T1 FLAIR", {**PD_TIMES, "RepetitionTime": 2200}, "t1"),  # without its inversion time
        ("T2 TIRM", FLAIR_TIMES, "flair"),
        ("Ax FLAIR", T2_TIMES, "flair"),  # without its inversion time
        ("T1 tra", T2_TIMES, "t2"),
        ("PD T2 TSE", T2_TIMES, "t2"),  # two echoes, each a series
        ("PD T2 TSE", PD_TIMES, "pd"),
        ("PD T2 TSE", {}, ""),
        ("T2 STIR", {**T2_TIMES, "ScanningSequence": ["SE", "IR"], "InversionTime": 160}, "t2"),
        ("T2* GRE", T2_TIMES, ""),
        ("T2 tra", GRADIENT, ""),  # T2*
        ("t2_ci3d_tra", {**GRADIENT, "EchoTime": 2.6}, "t2"),
        ("T1 FFE", GRADIENT, "t1"),
        ("TOF", T1_TIMES, ""),
        ("t2_tirm_cor", {**T2_TIMES, "ScanningSequence": ["SE", "IR"], "InversionTime": 160}, ""),
        ("ep2d", {"DiffusionBValue": 1000.0}, "dwi"),
        ("T1W_3D_TFE", {"DiffusionBValue": 0.0}, "t1"),
        ("T1", {"ContrastBolusAgent": "Gadovist"}, "t1ce"),
        ("T1", {"ContrastBolusAgent": "NONE"}, "t1"),
        ("T1", {"ContrastBolusAgent": ""}, "t1"),
        ("T1", {"ContrastBolusAgent": "w/o"}, "t1"),
        ("T1", {"ContrastBolusAgent": "ohne KM"}, "t1"),
        ("T1", {"ContrastBolusAgent": "UNKNOWN"}, "t1"),
        ("T1", {"ContrastBolusVolume": 7.5}, "t1ce"),
        ("T1", {"ContrastBolusVolume": 0}, "t1"),
        ("T1", {"ContrastBolusAgentSequence": [Dataset()]}, "t1ce"),
        ("", {**MPRAGE_TIMES, "ContrastBolusIngredient": "GADOLINIUM"}, "t1ce"),
        ("FLAIR", {"ContrastBolusAgent": "Gadovist"}, "flair"),
        ("T1 pre contrast", {"ContrastBolusAgent": "Gadovist"}, ""),  # the agent of the whole session, or not
        ("T1 nativ", {"ContrastBolusAgent": "Gadovist"}, ""),
        ("T1 FLAIR", {"Modality": "CT"}, "ct"),
        ("CBF", {"Modality": "CT"}, ""),
        ("ANGIO HEAD", {"Modality": "CT"}, "ct"),
        ("Spine T1-T12", {"Modality": "CT"}, "ct"),
        ("4CH cine", {"Modality": "US"}, "us"),
        ("T1", {"Modality": "PT"}, ""),
    ],
)
def test_tags_outrank_texts(text: str, tags: dict[str, Any], modality: str) -> None:
    assert recognized(text, **tags)[0] == modality


def test_protocol_and_path_count_where_the_description_is_silent() -> None:
    assert recognized("Series 3", ProtocolName="t2_tse_tra") == ("t2", "ProtocolName t2")
    assert recognized("Series 3", path="flair") == ("flair", "name: flair")
    assert recognized("Series 3") == ("", "")


def test_functional_groups_of_enhanced_files_are_read() -> None:
    dataset, shared, echo, timing = Dataset(), Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime, timing.RepetitionTime = 95.0, 4500.0
    shared.MREchoSequence, shared.MRTimingAndRelatedParametersSequence = [echo], [timing]
    dataset.Modality, dataset.EchoPulseSequence, dataset.SharedFunctionalGroupsSequence = "MR", "SPIN", [shared]
    assert modality_of(dataset, Path("series")).modality == "t2"


def test_of_texts_only_known_words_are_kept() -> None:
    evidence = recognized("Secretname Sabine T1 post gd")[1]
    assert evidence == "SeriesDescription t1, post, gd"
    assert recognized("sub-Secretname_ce-sabine_T1w")[1] == "SeriesDescription suffix t1w of a contrast agent"
