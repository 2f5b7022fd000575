"""DICOM: one file, a multi-frame file, or a folder that holds one series; and segmentations.

Array axes are columns, rows and slices; slices are sorted by position, never by name or instance number. Files of
enhanced MR and CT contain the position of each frame. Older multi-frame files, such as cines, are sequences of one
slice: their frames become channels. If a file has no position, the first pixel is at 0, columns run to the left and
rows to posterior, with the spacing of the file, else 1 mm.

Values are those after slope and intercept; MONOCHROME1 (low values are bright) is not inverted, colours become three
channels. From the descriptions only the name of a modality is kept, and no other information on the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meddiffusers.data.io.dicom_files import KIND, datasets_in
from meddiffusers.data.io.dicom_frames import Frame, frames_in
from meddiffusers.data.io.dicom_seg import SEGMENTATIONS, read_segmentation
from meddiffusers.data.io.dicom_volume import affine_of, check_frames, slice_order, values_of
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.modalities import modality_in
from meddiffusers.data.scan import Scan

DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName", "Modality")
STACKED = ("GridFrameOffsetVector", "SliceVector")  # of files whose frames are slices without positions of their own

Modality = str | Sequence[str]


def read_dicom(path: Path, modality: Modality | None) -> Scan:
    """Read a file, or the single series in a folder; with `modality` None it is taken from the description."""
    datasets = datasets_in(path)
    source, first = str(path), datasets[0]
    with decoding(source, KIND):
        if first.get("SOPClassUID") in SEGMENTATIONS:
            return read_segmentation(datasets, source)
        name: Modality = _described(first, path) if modality is None else modality
        frames = [frame for dataset in datasets for frame in frames_in(dataset, source)]
        if len(datasets) == 1 and len(frames) > 1 and "PerFrameFunctionalGroupsSequence" not in first:
            return _moving(first, frames, name, source)
        frames = [frames[index] for index in slice_order(frames, source)]
        values = values_of(frames)
        values = values[..., None] if values.ndim == 3 else values
        return scan_read(values.transpose(3, 1, 2, 0), affine_of(frames), name, source)


def _moving(dataset: Any, frames: list[Frame], name: Modality, source: str) -> Scan:
    """Read the frames of one slice as channels."""
    if any(keyword in dataset for keyword in STACKED):
        raise UnreadableError(source, "frames that are slices of a dose or an emission", "MR, CT or a moving image")
    if frames[0].pixels.ndim == 3:
        raise UnreadableError(source, "a moving image in colour", "grey values", "convert it to grey")
    check_frames(frames, source)
    seconds = float(dataset.get("FrameTime") or 0) / 1000
    return scan_read(values_of(frames)[..., None], affine_of(frames[:1]), name, source, seconds)


def _described(dataset: Any, path: Path) -> str:
    text = " ".join(str(dataset.get(name, "")) for name in DESCRIPTIONS)
    name = modality_in(text) or modality_in(path.stem)
    return "t1ce" if name == "t1" and dataset.get("ContrastBolusAgent") else name
