"""Images of DICOM files with their positions: one in a single-frame file, many in a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from meddiffusers.data.io.library_errors import UnreadableError
from meddiffusers.utils.optional import optional_import

LARGEST_RATIO = 10_000  # largest ratio of bytes to compressed bytes, for nearly empty images
UNPLACED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # columns to the left, rows to the back


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a DICOM file.

    Attributes:
        pixels: (columns, rows), or (columns, rows, 3), as stored.
        position: (3,) centre of the first pixel, mm in DICOM's LPS+; None if unknown.
        orientation: (6,) unit vectors along a row and along a column of pixels.
        spacing: mm between rows, between columns, and between slices as declared.
        scaling: slope and intercept.
    """

    pixels: np.ndarray
    position: np.ndarray | None
    orientation: np.ndarray
    spacing: tuple[float, float, float]
    scaling: tuple[float, float]


def frames_in(dataset: Any, source: str) -> list[Frame]:
    """Images of one file, in stored order."""
    if "ModalityLUTSequence" in dataset:
        raise UnreadableError(source, "values by a look-up table", "slope and intercept", "export it without the table")
    images = pixels_in(dataset, source)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        return [_frame(image, [dataset]) for image in images]
    if len(groups) != len(images):
        raise UnreadableError(source, f"{len(images)} frames with {len(groups)} places", "a place for each")
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    return [_frame(image, _groups(own, shared[0])) for image, own in zip(images, groups, strict=True)]


def pixels_in(dataset: Any, source: str) -> np.ndarray:
    """(frames, columns, rows) or (frames, columns, rows, 3) as stored; colours as RGB."""
    pixels = optional_import("pydicom.pixels", "dicom")
    check_size(dataset, source)
    try:
        array = dataset.pixel_array
    except RuntimeError as error:
        if "plugin" not in str(error):
            raise
        name = dataset.file_meta.TransferSyntaxUID.name
        remedy = "install pylibjpeg[all], or export it uncompressed"
        raise UnreadableError(source, f"pixels packed by {name}", "a compression that can be undone", remedy) from None
    colours = int(dataset.get("SamplesPerPixel", 1)) > 1
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        array, colours = pixels.apply_color_lut(array, dataset), True
    return array.reshape(-1, dataset.Rows, dataset.Columns, *array.shape[-1:] * colours).swapaxes(1, 2)


def check_size(dataset: Any, source: str) -> None:
    """Raise UnreadableError if the header does not agree with the size of the file, before pixels are allocated."""
    rows, columns, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel", 1))
    promised = -(-rows * columns * frames * samples * bits // 8)
    stored = next((dataset[name].value for name in _PIXELS if name in dataset), None) or b""
    found = f"{rows} rows, {columns} columns, {frames} frames of {bits} bits in {len(stored)} bytes"
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if promised < 1 or promised > len(stored) * (LARGEST_RATIO if compressed else 1):
        raise UnreadableError(source, found, f"{promised} bytes")
    if not compressed and stored[promised + promised % 2 :].strip(b"\0"):
        raise UnreadableError(source, found, f"no more than {promised} bytes")


_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def _groups(own: Any, shared: Any) -> list[Any]:
    """Functional groups with the position of a frame: its own before the shared ones."""
    names = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    )
    return [group[name][0] for name in names for group in (own, shared) if name in group]


def _frame(pixels: np.ndarray, places: list[Any]) -> Frame:
    def value(*names: str) -> Any:
        found = (place.get(name) for name in names for place in places)
        return next((each for each in found if each is not None and each != ""), None)

    position, orientation = value("ImagePositionPatient"), value("ImageOrientationPatient")
    rows, columns = value("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing") or (1.0, 1.0)
    thickness = abs(float(value("SpacingBetweenSlices") or 0)) or abs(float(value("SliceThickness") or 0)) or 1.0
    slope, intercept = value("RescaleSlope"), value("RescaleIntercept")
    return Frame(
        pixels,
        None if position is None or orientation is None else np.array(position, dtype=float),
        np.array(UNPLACED if orientation is None else orientation, dtype=float),
        (float(rows), float(columns), thickness),
        (float(1 if slope is None else slope), float(intercept or 0)),
    )
