"""Read and write label maps as DICOM-SEG with highdicom, on the grid of the segmented series.

References to the series are kept: the UIDs of study, series and images. Patient and study are blank by default: only
attributes that the geometry needs are copied from the series.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from meddiffusers.data.io.dicom_files import datasets_in
from meddiffusers.data.io.dicom_frames import check_size, frames_in
from meddiffusers.data.io.dicom_volume import LPS_TO_RAS, UNEVEN, affine_of, slice_order
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.labels import label_colour, to_label_ids
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
SAME_GRID = 1e-2  # mm
LARGEST = 65535  # label, as segment numbers have 16 bits
SCHEME = "99MEDDIFFUSERS"
LABEL = "label {}"  # segment description: segments are numbered from 1, labels may have gaps
BLANK = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
GEOMETRY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def write_segmentation(
    scan: Scan, path: Path, series: Path | Sequence[Path], names: Mapping[int, str], keep_patient: bool = False
) -> None:
    """Write a label map on the grid of a DICOM series.

    Args:
        scan: label map; its axes may be in another order than those of the series.
        path: file to write.
        series: folder of the series, or its files.
        names: of every label except 0; truncated to 64 characters.
        keep_patient: copy patient and study from the series, for use within its archive.

    Raises:
        ValueError: voxels are not labels, a label has no name, or the grid differs.
    """
    labels = _labels(scan, path)
    datasets, source = datasets_in(series), str(series if isinstance(series, Path) else series[0].parent)
    kind = "a DICOM series to lay labels on"
    with decoding(source, kind):
        frames = [frame for dataset in datasets for frame in frames_in(dataset, source)]
        order = slice_order(frames, source)
        grid = affine_of([frames[index] for index in order])
    labels = _onto(labels, scan, path, (*frames[0].pixels.shape[:2], len(frames)), grid)
    numbers = _numbers(labels, names, path)
    stored = np.empty_like(labels.T)
    stored[order] = labels.T  # slices in the order of the files
    with decoding(source, kind):
        _place(datasets, order, grid)
        sources = [_source(dataset, keep_patient) for dataset in datasets]
        segmentation = _segmentation(sources, _renumbered(stored, numbers), _segments(numbers, names))
    with atomic_path(path) as staged:
        segmentation.save_as(staged)


def read_segmentation(datasets: Sequence[Any], source: str) -> Scan:
    """Read the label map of a DICOM-SEG, on all slices with frames.

    Raises:
        UnreadableError: several files, fractional or overlapping segments, or frames that are not an even stack.
    """
    if len(datasets) > 1:
        raise UnreadableError(source, f"{len(datasets)} segmentations", "one", "name one of the files")
    check_size(datasets[0], source)
    highdicom = optional_import("highdicom", "dicom")
    try:
        segmentation = highdicom.seg.Segmentation.from_dataset(datasets[0], copy=False)
        kind = segmentation.segmentation_type.value
    except Exception:  # highdicom checks hundreds of attributes
        expected = "those that DICOM requires"
        raise UnreadableError(source, "a segmentation with missing or invalid attributes", expected) from None
    if kind == "FRACTIONAL":
        raise UnreadableError(source, "segments in fractions", "whole voxels", "export it as binary segments")
    try:
        volume = segmentation.get_volume(combine_segments=True, rtol=UNEVEN)
    except RuntimeError as error:
        if "overlap" in str(error):
            raise UnreadableError(source, "segments that overlap", "one label a voxel", "export them apart") from None
        expected, remedy = "one frame a segment at each place of a straight, even stack", "export it on such a grid"
        raise UnreadableError(source, "frames that make no volume", expected, remedy) from None
    table = np.arange(max(segmentation.segment_numbers) + 1)
    for segment in segmentation.SegmentSequence:
        table[segment.SegmentNumber] = _label_of(segment, source)
    labels = table[volume.array].astype(np.min_scalar_type(table.max())).T
    affine = LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:  # slices along row × column, as for images
        flip = np.array([[0, 1], [1, 1], [2, -1]])
        labels, affine = labels[..., ::-1], affine @ inv_ornt_aff(flip, labels.shape)
    return scan_read(labels, affine, LABELS, source)


def _label_of(segment: Any, source: str) -> int:
    """The label that `write_segmentation` has noted twice, else the number of the segment."""
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    described = re.fullmatch(LABEL.format(r"(\d{1,5})"), str(segment.get("SegmentDescription", "")))
    coded = re.fullmatch(r"LABEL(\d{1,5})", str(code.get("CodeValue", "")))
    ours = code.get("CodingSchemeDesignator") == SCHEME
    if not (ours or (described and coded)):
        return int(segment.SegmentNumber)
    if not (ours and described and coded and described[1] == coded[1]):
        raise UnreadableError(source, "a segment with two different labels, or none", "one label", "write it again")
    return int(coded[1])


def _labels(scan: Scan, path: Path) -> np.ndarray:
    """(X, Y, Z) of uint16."""
    if len(scan.array) > 1:
        raise ValueError(f"{path}: got {len(scan.array)} channels; expected one label map: write each to its own file.")
    return to_label_ids(scan.array[0], str(path), largest=LARGEST).astype(np.uint16)


def _onto(labels: np.ndarray, scan: Scan, path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Reorder the axes of the labels to those of the series."""
    turn = ornt_transform(io_orientation(scan.affine), io_orientation(affine))
    turned = apply_orientation(labels, turn)
    turned_affine = scan.affine @ inv_ornt_aff(turn, labels.shape)
    corners = np.array([[0, 0, 0, 1], [*shape, 1]]).T
    if turned.shape != shape or np.abs((turned_affine - affine) @ corners).max() > SAME_GRID:
        raise ValueError(
            f"{path}: the labels have {turned.shape} voxels at {np.round(turned_affine, 3).tolist()}, the series "
            f"{shape} at {np.round(affine, 3).tolist()}; expected one grid: resample the labels onto it first."
        )
    return turned


def _numbers(labels: np.ndarray, names: Mapping[int, str], path: Path) -> dict[int, int]:
    """Segment number, from 1, of each named label."""
    named = sorted(int(label) for label in names if int(label) > 0)
    missing = sorted(set(np.unique(labels).tolist()) - {0, *named})
    if missing or not named:
        raise ValueError(f"{path}: no name for the labels {missing}; expected `names` with each, as {{1: 'oedema'}}.")
    return {label: number for number, label in enumerate(named, start=1)}


def _renumbered(labels: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    table = np.zeros(max(numbers) + 1, np.uint16)
    table[list(numbers)] = list(numbers.values())
    return table[labels]


def _segments(numbers: Mapping[int, int], names: Mapping[int, str]) -> list[Any]:
    """Descriptions of the segments."""
    highdicom, codes = optional_import("highdicom", "dicom"), optional_import("pydicom.sr.codedict", "dicom").codes
    concept = highdicom.sr.CodedConcept
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "meddiffusers", concept("AI", SCHEME, "Generative model"), version("meddiffusers")
    )
    segments = []
    for label, number in numbers.items():
        segment = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=names[label][:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=concept(f"LABEL{label}", SCHEME, names[label][:64]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*label_colour(label)),
        )
        segment.SegmentDescription = LABEL.format(label)
        segments.append(segment)
    return segments


def _place(datasets: Sequence[Any], order: Sequence[int], grid: np.ndarray) -> None:
    """Set positions and slice gap to those of the grid: scanners round positions, and some write the empty gap."""
    groups = [group for dataset in datasets for group in dataset.get("PerFrameFunctionalGroupsSequence") or [dataset]]
    lps, gap = LPS_TO_RAS @ grid, float(np.linalg.norm(grid[:3, 2]))
    for number, index in enumerate(order):
        group = groups[index]
        place = group.PlanePositionSequence[0] if "PlanePositionSequence" in group else group
        place.ImagePositionPatient = [f"{value:.9g}" for value in (lps @ (0, 0, number, 1))[:3]]
    for dataset in datasets:
        if "PerFrameFunctionalGroupsSequence" not in dataset:
            dataset.SpacingBetweenSlices = f"{gap:.9g}"


def _source(dataset: Any, keep_patient: bool) -> Any:
    """Header of the image: complete, or with position and references only."""
    pydicom = optional_import("pydicom", "dicom")
    source = dataset if keep_patient else pydicom.Dataset()
    for keyword in () if keep_patient else GEOMETRY:
        if keyword in dataset:
            source[keyword] = dataset[keyword]
    for keyword in BLANK:
        if keyword not in source:
            setattr(source, keyword, "")
    source.file_meta = dataset.file_meta
    return source


def _segmentation(sources: list[Any], stored: np.ndarray, segments: list[Any]) -> Any:
    highdicom = optional_import("highdicom", "dicom")
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=stored,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="meddiffusers",
        manufacturer_model_name="meddiffusers",
        software_versions=version("meddiffusers"),
        device_serial_number="0",
        series_description="meddiffusers segmentation",
        content_label="SEGMENTATION",  # by default made of the series' text
        omit_empty_frames=False,  # the file covers the whole grid
    )
