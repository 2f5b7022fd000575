"""DICOM: one file, a multi-frame file, or a folder that holds one series; and segmentations.

Array axes are columns, rows and slices; slices are sorted by position, never by name or instance number. Files of
enhanced MR and CT contain the position of each frame. Older multi-frame files, such as cines, are sequences of one
slice: their frames become channels. If a file has no position, the first pixel is at 0, columns run to the left and
rows to posterior, with the spacing of the file or of its ultrasound regions, else 1 mm and its aspect ratio.

Values are those after slope and intercept; MONOCHROME1 (low values are bright) is not inverted, colours become three
channels. From the descriptions only words that name a modality are kept, and no other information on the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meddiffusers.data.io.dicom_files import KIND, datasets_in
from meddiffusers.data.io.dicom_frames import COLOURS, Frame, frames_in
from meddiffusers.data.io.dicom_modality import modality_of_images
from meddiffusers.data.io.dicom_seg import SEGMENTATIONS, read_segmentation
from meddiffusers.data.io.dicom_spacing import seconds_between
from meddiffusers.data.io.dicom_volume import affine_of, check_frames, chosen_volume, slice_order, values_of
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.scan import Scan

STACKED = ("GridFrameOffsetVector", "SliceVector")  # of files whose frames are slices without positions of their own
# What slices of one image have in common: their values would mean different things.
ALIKE = ("PhotometricInterpretation", "RescaleType", "Units", "PatientID", "Modality", "FrameOfReferenceUID")
VARYING = ("EchoTime", "InversionTime", "DiffusionBValue")  # in volumes of one scan they do not

Modality = str | Sequence[str]


def read_dicom(path: Path, modality: Modality | None, volume: int | None = None) -> Scan:
    """Read a file, or the single series in a folder.

    Args:
        path: of the file or the folder.
        modality: by default from tags and descriptions.
        volume: number of the volume, of a multi-frame file with several.
    """
    datasets, source = datasets_in(path), str(path)
    if modality is not None:
        return _read(datasets, modality, volume, source)
    with decoding(source, KIND):
        recognized = modality_of_images(datasets, path)
    return replace(_read(datasets, recognized.modality, volume, source), modality_from=str(recognized))


def _read(datasets: list[Any], name: Modality, volume: int | None, source: str) -> Scan:
    first = datasets[0]
    with decoding(source, KIND):
        if first.get("SOPClassUID") in SEGMENTATIONS:
            return read_segmentation(datasets, source)
        _check_alike(datasets, source)
        frames = [frame for dataset in datasets for frame in frames_in(dataset, source)]
        if len(datasets) == 1 and len(frames) > 1 and "PerFrameFunctionalGroupsSequence" not in first:
            return _moving(first, frames, name, source)
        frames = chosen_volume(frames, volume, source)
        frames = [frames[index] for index in slice_order(frames, source)]
        values = values_of(frames, source)
        values = values[..., None] if values.ndim == 3 else values
        notes = [*_doubts(first, frames), *_mixed(datasets)]
        return scan_read(values.transpose(3, 1, 2, 0), affine_of(frames), name, source, notes=notes)


def _doubts(dataset: Any, frames: list[Frame]) -> list[str]:
    """Notes on what the headers lack."""
    doubts = [*dict.fromkeys(frame.doubt for frame in frames if frame.doubt)]
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        doubts.append("texts may be part of the image (BurnedInAnnotation), and may identify the patient")
    if len(frames) > 1 or "ImageOrientationPatient" not in dataset:
        return doubts
    thickness = [] if frames[0].spacing[2] else ["no SliceThickness: taken as 1 mm"]
    position = ["no ImagePositionPatient: the position is a guess"] if frames[0].position is None else []
    return [*doubts, *thickness, *position]


def _check_alike(datasets: list[Any], source: str) -> None:
    """Raise UnreadableError for slices whose values mean different things, or that are of several patients."""
    for name in ALIKE:
        values = {str(dataset.get(name) or "").strip() for dataset in datasets} - {"", *COLOURS}
        if len(values) > 1:
            shown = f"slices with {len(values)} values of {name}"
            raise UnreadableError(source, shown, "one for all slices", "put each kind into a folder of its own")


def _mixed(datasets: list[Any]) -> list[str]:
    """Notes on settings that differ between slices, as where those of several images are mixed."""
    counts = {name: len({str(dataset.get(name) or "") for dataset in datasets}) for name in VARYING}
    return [
        f"slices with {count} values of {name}: several images may be mixed"
        for name, count in counts.items()
        if count > 1
    ]


def _moving(dataset: Any, frames: list[Frame], name: Modality, source: str) -> Scan:
    """Read the frames of one slice as channels."""
    if any(keyword in dataset for keyword in STACKED):
        raise UnreadableError(source, "frames that are slices of a dose or an emission", "MR, CT or a moving image")
    if frames[0].pixels.ndim == 3:
        raise UnreadableError(source, "a moving image in colour", "grey values", "convert it to grey")
    check_frames(frames, source)
    seconds, note = seconds_between(dataset, len(frames), source)
    notes = [*_doubts(dataset, frames), *([note] if note else [])]
    return scan_read(values_of(frames, source)[..., None], affine_of(frames[:1]), name, source, seconds, notes)
