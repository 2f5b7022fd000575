"""Tags of DICOM outrank texts; of texts only known words are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicom_series import write_series
from pydicom import Dataset, dcmread

from meddiffusers.data.io import read
from meddiffusers.data.io.dicom_modality import modality_of, modality_of_images, modality_of_series
from meddiffusers.data.modalities import Recognized

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


def by_mouth() -> Dataset:
    agent, route = Dataset(), Dataset()
    route.CodeMeaning = "Oral route"
    agent.ContrastBolusAdministrationRouteSequence = [route]
    return agent


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
        ("T1", {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": 0}, ""),  # which of the two is right?
        ("T1 post", {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": 0}, "t1ce"),
        ("T1 pre", {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": 0}, "t1"),
        ("T1 w/o", {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": 0}, "t1"),
        ("T1", {"ContrastBolusAgent": "?"}, "t1"),
        ("T1", {"ContrastBolusAgent": "Gadovist", "ContrastBolusRoute": "IV"}, "t1ce"),
        ("T1", {"ContrastBolusAgent": "Lumirem", "ContrastBolusRoute": "ORAL"}, "t1"),
        ("T1", {"ContrastBolusVolume": 500, "ContrastBolusRoute": "PER OS"}, "t1"),
        ("T1", {"ContrastBolusAgent": "Gd", "ContrastBolusRoute": "INTRA-ARTICULAR"}, ""),
        ("T1", {"ContrastBolusAgent": "ORAL CONTRAST"}, "t1"),
        ("T1", {"ContrastBolusAgent": "GADOVIST 7ML NO REACTION"}, "t1ce"),
        ("T1", {"ContrastBolusAgent": "NONE", "ContrastBolusVolume": 7}, ""),
        ("T1 POST", {"ContrastBolusAgent": "NONE"}, ""),
        ("T1 POST", {"ContrastBolusAgent": ""}, "t1ce"),
        ("T1 late", {"ContrastBolusAgent": "Gadovist"}, "t1ce"),
        ("T1 late", {"ContrastBolusAgent": "NONE"}, "t1"),
        ("T1 late", T1_TIMES, ""),
        ("T1 pre and post Gd", {**T1_TIMES, "ContrastBolusAgent": "Gadovist"}, ""),
        ("T1", {"ContrastBolusAgentSequence": [Dataset()]}, "t1ce"),
        ("T1", {"ContrastBolusAgentSequence": [by_mouth()]}, "t1"),
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
        ("T1 musculoskeletal MSK", {}, "t1"),
        ("MSK T2", {}, "t2"),
        ("T1 ROI", {}, "t1"),  # the region that was scanned
        ("T1 segmentation", {}, "labels"),
        ("T1 tra", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "dwi"),
        ("T2 tra", {**T2_TIMES, "ImageType": ["DERIVED", "PRIMARY", "T2 MAP"]}, ""),
        ("T1 post", {"ImageType": ["DERIVED", "PRIMARY", "M", "SUBTRACTION"]}, ""),
        ("T1 post", {"ImageType": ["DERIVED", "PRIMARY", "M", "SUB", "ND"]}, ""),
        ("T1 vibe", {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]}, ""),
        ("T1 vibe", {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]}, "t1"),
        ("T1 vibe", {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "IN_PHASE"]}, "t1"),
        ("DWI", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]}, ""),
        ("T1", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, ""),  # phase
        ("T1", {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]}, "t1"),
        ("T1", {"ImageType": ["DERIVED", "SECONDARY", "MPR", "NORM", "DIS2D"]}, "t1"),
        ("T1", {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, ""),
        ("T1", {"ImageType": "DERIVED"}, "t1"),
        ("AX T2", {"ProtocolName": "t1_mprage"}, ""),
        ("AX T2", {**T2_TIMES, "ProtocolName": "t1_mprage"}, "t2"),
        ("AX T1", {"ProtocolName": "t1 post gd"}, ""),
        ("AX T1", {"ProtocolName": "t1 post gd", "ContrastBolusAgent": "Gadovist"}, "t1ce"),
        ("AX T1 post", {"ProtocolName": "t1_mprage"}, "t1ce"),  # the protocol of a plain one, repeated
        ("AX T1 post", {"ProtocolName": "t1_mprage_native"}, ""),
        ("AX T1 pre", {"ProtocolName": "t1 post gd"}, ""),
        ("AX T2", {"ProtocolName": "BRAIN T1 T2 FLAIR"}, "t2"),  # the examination
        ("AX T1", {"ProtocolName": "BRAIN PERFUSION WITH CONTRAST"}, "t1"),
        ("AX T1", {"ProtocolName": "T1 map"}, ""),
        ("ADC", {"ProtocolName": "ep2d_diff_3scan"}, "dwi"),
        ("MIP", {"ProtocolName": "t1_vibe"}, ""),
        ("HEAD 5.0", {"Modality": "CT", "ProtocolName": "CTA and perfusion"}, "ct"),
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


def images(*tags: dict[str, Any]) -> list[Dataset]:
    found = []
    for each in tags:
        dataset = Dataset()
        for keyword, value in {"Modality": "MR", **each}.items():
            setattr(dataset, keyword, value)
        found.append(dataset)
    return found


@pytest.mark.parametrize(
    ("tags", "modality", "candidates"),
    [
        ([{"SeriesDescription": "T1"}] * 3, "t1", ()),
        ([{"SeriesDescription": "T1"}, {}], "t1", ()),  # one without a description contradicts nothing
        ([{"SeriesDescription": "T1", "ContrastBolusAgent": agent} for agent in ("", "", "Gd")], "", ("t1", "t1ce")),
        ([{"SeriesDescription": "AX T1"}, {"SeriesDescription": "AX T2"}], "", ("t1", "t2")),
        ([{"SeriesDescription": "T1"}, {"SeriesDescription": "T1", "ImageType": ["D", "P", "SUB"]}], "", ("t1",)),
        ([{"SeriesDescription": "T2", **PD_TIMES}, {"SeriesDescription": "T2", **T2_TIMES}], "", ("pd", "t2")),
        ([{"SeriesDescription": "ep2d_diff", "DiffusionBValue": b} for b in (0.0, 1000.0)], "dwi", ()),
    ],
)
def test_all_images_of_a_series_are_asked(
    tags: list[dict[str, Any]], modality: str, candidates: tuple[str, ...]
) -> None:
    found = modality_of_images(images(*tags), Path("series"))
    assert (found.modality, found.candidates) == (modality, candidates)


def frame(echo: float, **contrast: str) -> Dataset:
    times, usage, groups = Dataset(), Dataset(), Dataset()
    times.EffectiveEchoTime, groups.MREchoSequence = echo, [times]
    if contrast:
        usage.ContrastBolusAgentAdministered, groups.ContrastBolusUsageSequence = contrast["agent"], [usage]
    return groups


@pytest.mark.parametrize(
    ("frames", "modality", "candidates"),
    [
        ([frame(12.0), frame(12.0)], "t1", ()),
        ([frame(12.0, agent="YES"), frame(12.0, agent="YES")], "t1ce", ()),
        ([frame(12.0, agent="NO"), frame(12.0, agent="YES")], "", ("t1", "t1ce")),
        ([frame(12.0, agent="NO")], "t1", ()),
    ],
)
def test_all_frames_of_an_enhanced_file_are_asked(
    frames: list[Dataset], modality: str, candidates: tuple[str, ...]
) -> None:
    (dataset,) = images({"SeriesDescription": "T1", "PerFrameFunctionalGroupsSequence": frames})
    found = modality_of_images([dataset], Path("series"))
    assert (found.modality, found.candidates) == (modality, candidates)


def test_two_echoes_of_an_enhanced_file_are_two_modalities() -> None:
    tags = {**PD_TIMES, "PerFrameFunctionalGroupsSequence": [frame(15.0), frame(95.0)] * 3}
    del tags["EchoTime"]
    found = modality_of_images(images(tags), Path("series"))
    assert (found.modality, found.candidates) == ("", ("pd", "t2"))


def test_a_series_whose_images_disagree_is_read_without_a_modality_and_says_so(tmp_path: Path) -> None:
    files = write_series(tmp_path, np.zeros((4, 5, 3), np.int16), np.eye(4), SeriesDescription="T1")
    dataset = dcmread(files[1])
    dataset.ContrastBolusAgent = "Gadovist"
    dataset.save_as(files[1])
    report = Dataset()
    report.SOPClassUID, report.Modality, report.SeriesDescription = "1.2.840.10008.5.1.4.1.1.88.11", "SR", "AX T2"
    report.save_as(tmp_path / "report.dcm", implicit_vr=True, little_endian=True)
    (tmp_path / "._1.dcm").write_bytes(b"of macOS")
    scan = read(tmp_path)
    assert scan.modality == ("",)
    assert scan.modality_from.startswith("images of one series that disagree (SeriesDescription t1")
    assert modality_of_series(tmp_path, Recognized()).candidates == ("t1", "t1ce")


def test_of_texts_only_known_words_are_kept() -> None:
    evidence = recognized("Secretname Sabine T1 post gd")[1]
    assert evidence == "SeriesDescription t1, post, gd"
    assert recognized("sub-Secretname_ce-sabine_T1w")[1] == "SeriesDescription suffix t1w of a contrast agent"
