"""Images of DICOM files with their positions: one in a single-frame file, many in a multi-frame file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meddiffusers.data.io.dicom_spacing import pixel_aspect, pixel_spacing
from meddiffusers.data.io.dicom_values import number, numbers
from meddiffusers.data.io.library_errors import UnreadableError
from meddiffusers.utils.optional import optional_import

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "PALETTE COLOR")  # become RGB
LARGEST_RATIO = 10_000  # largest ratio of bytes to compressed bytes, for nearly empty images
MOSAIC = (0x0019, 0x100A)  # Siemens' NumberOfImagesInMosaic
NEEDED = ("BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
WITHIN = ("InStackPositionNumber", "ImagePositionPatient")  # indices of slices, not of volumes
UNPLACED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # columns to the left, rows to the back


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a DICOM file.

    Attributes:
        pixels: (columns, rows), or (columns, rows, 3), as stored.
        position: (3,) centre of the first pixel, mm in DICOM's LPS+; None if unknown.
        orientation: (6,) unit vectors along a row and along a column of pixels.
        spacing: mm between rows, between columns, and between slices as declared, which is 0 if unknown.
        scaling: slope and intercept.
        volume: what tells volumes of one file apart, such as {"TemporalPositionIndex": 2}.
        doubt: what the header leaves open of the spacing; "" if nothing.
    """

    pixels: np.ndarray
    position: np.ndarray | None
    orientation: np.ndarray
    spacing: tuple[float, float, float]
    scaling: tuple[float, float]
    volume: Mapping[str, int] = field(default_factory=dict)
    doubt: str = ""


def frames_in(dataset: Any, source: str) -> list[Frame]:
    """Images of one file, in stored order."""
    if "ModalityLUTSequence" in dataset:
        raise UnreadableError(source, "values by a look-up table", "slope and intercept", "export it without the table")
    if "MOSAIC" in (dataset.get("ImageType") or ()) or MOSAIC in dataset:
        remedy = "convert it with dcm2niix"
        raise UnreadableError(
            source, "a Siemens mosaic, all slices of a volume in one image", "an image a slice", remedy
        )
    images = pixels_in(dataset, source)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None and "Enhanced" in str(getattr(dataset.get("SOPClassUID"), "name", "")):
        raise UnreadableError(source, "an enhanced file without a place of each frame", "its functional groups")
    if groups is None:
        return [_frame(image, [dataset], source) for image in images]
    if len(groups) != len(images):
        raise UnreadableError(source, f"{len(images)} frames with {len(groups)} places", "a place for each")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    pointers = _dimensions(dataset)
    return [
        _frame(image, _groups(own, shared), source, _volume(own, pointers))
        for image, own in zip(images, groups, strict=True)
    ]


def pixels_in(dataset: Any, source: str) -> np.ndarray:
    """(frames, columns, rows) or (frames, columns, rows, 3) as stored; colours as RGB."""
    pixels = optional_import("pydicom.pixels", "dicom")
    check_size(dataset, source)
    try:
        array = dataset.pixel_array
    except MemoryError:
        raise
    except Exception:
        raise _undecoded(dataset, source) from None
    colours = int(dataset.get("SamplesPerPixel", 1)) > 1
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        array, colours = pixels.apply_color_lut(array, dataset), True
    return array.reshape(-1, dataset.Rows, dataset.Columns, *array.shape[-1:] * colours).swapaxes(1, 2)


def _undecoded(dataset: Any, source: str) -> UnreadableError:
    """The reason why pixels cannot be decoded: no decoder of this compression is installed, or damage."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = optional_import("pydicom.pixels", "dicom").get_decoder(syntax)
    except NotImplementedError:
        return UnreadableError(source, f"the transfer syntax {syntax.name}", "one of images", "export it uncompressed")
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2", *COLOURS):
        return UnreadableError(source, "a PhotometricInterpretation that DICOM does not have", "one of its kinds")
    twelve_bits = (
        syntax.name.startswith("JPEG Extended") and int(dataset.get("BitsStored", 0)) > 8
    )  # which Pillow cannot decode
    if decoder.missing_dependencies and (not decoder.is_available or twelve_bits):
        remedy = "install pylibjpeg[all], or export it uncompressed"
        return UnreadableError(source, f"pixels packed by {syntax.name}", "a compression that can be undone", remedy)
    return UnreadableError(source, "pixels that cannot be decoded", f"those of {syntax.name}")


def check_size(dataset: Any, source: str) -> None:
    """Raise UnreadableError if the header does not agree with the size of the file, before pixels are allocated."""
    needed = (*NEEDED, *(("BitsStored", "PixelRepresentation") if "PixelData" in dataset else ()))  # not of floats
    if missing := [name for name in needed if name not in dataset]:
        raise UnreadableError(source, f"a header without {', '.join(missing)}", "a description of its pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise UnreadableError(
            source, "a TransferSyntaxUID that DICOM does not have", "that of its pixels", "correct it"
        )
    stored_bits, high = (int(dataset.get(name, 0)) for name in ("BitsStored", "HighBit"))
    if "HighBit" in dataset and high != stored_bits - 1:
        raise UnreadableError(
            source, f"{stored_bits} bits of which bit {high} is the highest", f"bit {stored_bits - 1}"
        )
    rows, columns, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated)
    frames, samples = int(number(dataset, "NumberOfFrames", 1, source)), int(dataset.SamplesPerPixel)
    promised = -(-rows * columns * frames * samples * bits // 8)
    stored = next((dataset[name].value for name in _PIXELS if name in dataset), None) or b""
    found = f"{rows} rows, {columns} columns, {frames} frames of {bits} bits in {len(stored)} bytes"
    compressed = syntax.is_encapsulated
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


def _dimensions(dataset: Any) -> list[str]:
    """Keywords of the dimensions of a multi-frame file, in the order of its indices."""
    names = optional_import("pydicom.datadict", "dicom")
    items = dataset.get("DimensionIndexSequence") or []
    return [names.keyword_for_tag(item.DimensionIndexPointer) or str(item.DimensionIndexPointer) for item in items]


def _volume(own: Any, pointers: list[str]) -> dict[str, int]:
    """Indices of a frame in the dimensions that are not of space."""
    content = (own.get("FrameContentSequence") or [{}])[0]
    values = content.get("DimensionIndexValues") or []
    values = [values] if isinstance(values, int) else values
    if len(values) == len(pointers):
        return {name: int(value) for name, value in zip(pointers, values, strict=True) if name not in WITHIN}
    return {name: int(content.get(name)) for name in ("TemporalPositionIndex",) if content.get(name) is not None}


def _frame(pixels: np.ndarray, places: list[Any], source: str, volume: Mapping[str, int] | None = None) -> Frame:
    def first(count: int, *names: str) -> list[float] | None:
        found = (numbers(place, name, count, source) for name in names for place in places)
        return next((each for each in found if each is not None), None)

    position, orientation = first(3, "ImagePositionPatient"), first(6, "ImageOrientationPatient")
    edges, doubt = pixel_spacing(places, source)
    if edges is None and position is not None:
        raise UnreadableError(
            source, "a position, but no PixelSpacing", "the distances between pixels", "export it again"
        )
    if orientation is None and position is not None:
        found = "a position, but no ImageOrientationPatient"
        raise UnreadableError(source, found, "the directions of rows and columns", "export it again")
    rows, columns = edges or pixel_aspect(places, source)
    slope, intercept = first(1, "RescaleSlope") or [1.0], first(1, "RescaleIntercept") or [0.0]
    if slope == [0]:
        raise UnreadableError(source, "a RescaleSlope of 0", "the slope of its values", "export it again")
    thickness = [abs((first(1, name) or [0.0])[0]) for name in ("SpacingBetweenSlices", "SliceThickness")]
    return Frame(
        pixels,
        None if position is None else np.array(position),
        np.array(UNPLACED if orientation is None else orientation),
        (rows, columns, thickness[0] or thickness[1]),
        (slope[0], intercept[0]),
        volume or {},
        doubt,
    )
