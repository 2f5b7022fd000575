"""Read scans with another library, as plainly as its documentation shows, to compare with this package's answer."""

from __future__ import annotations

import bz2
import re
import zlib
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK

Answer = tuple[np.ndarray, np.ndarray]  # (C, X, Y, Z) and affine in RAS+, mm
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MILLIMETRES = {1: 1e3, 3: 1e-3}


def read_with_nibabel(path: Path) -> Answer:
    """NIfTI and Analyze."""
    image: Any = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj)
    if voxels.dtype.names:
        voxels = np.stack([voxels[name] for name in voxels.dtype.names], axis=-1)
    shape = (*voxels.shape, 1, 1, 1)[: max(3, voxels.ndim)]
    channels = np.moveaxis(voxels.reshape(*shape[:3], -1, order="F"), -1, 0)
    code = int(image.header["xyzt_units"]) & 7 if "xyzt_units" in image.header else 2
    return channels, np.diag([*[MILLIMETRES.get(code, 1)] * 3, 1]) @ image.affine


def read_with_itk(path: Path) -> Answer:
    """NRRD, MetaImage and single DICOM images."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    image = SimpleITK.ReadImage(str(_unpacked(path)))
    array, size = SimpleITK.GetArrayFromImage(image), image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif size < 4:
        array = array[None]
    affine = np.eye(max(size, 3) + 1)
    affine[:size, :size] = np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing()
    affine[:size, -1] = image.GetOrigin()
    array = np.swapaxes(array[:, None] if array.ndim == 3 else array, 1, 3)
    return array, LPS_TO_RAS @ affine[np.ix_([0, 1, 2, -1], [0, 1, 2, -1])]


def _unpacked(path: Path) -> Path:
    """The file without what SimpleITK cannot decode: bzip2, or a MetaImage with a wrong CompressedDataSize."""
    data, copy = path.read_bytes(), path.with_name(f"unpacked-{path.name}")
    bzip2 = re.match(rb"(NRRD.*)encoding: bzip2\n(.*?\n\n)", data, re.DOTALL)
    packed = re.match(rb"(.*)CompressedData = True\n(.*ElementDataFile = LOCAL\n)", data, re.DOTALL)
    if bzip2:
        copy.write_bytes(bzip2[1] + b"encoding: raw\n" + bzip2[2] + bz2.decompress(data[bzip2.end() :]))
    elif packed:
        header = re.sub(rb"CompressedDataSize = .*\n", b"", packed[1] + packed[2])
        copy.write_bytes(header + zlib.decompress(data[packed.end() :], 47))
    return copy if copy.exists() else path


def read_with_pydicom(path: Path) -> Answer:
    """DICOM: a series, a multi-frame file, a cine or a segmentation, by the equations of the standard."""
    files = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if file.is_file()]
    datasets = [pydicom.dcmread(BytesIO(file.read_bytes()), force=True) for file in files]
    for dataset in datasets:
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2{'' if implicit else '.1'}"
    frames = [frame for dataset in datasets for frame in _frames(dataset)]
    if "SegmentSequence" in datasets[0]:
        frames = _labelled(frames)
    orientation = np.array(frames[0]["orientation"], dtype=float)
    row, column = orientation.reshape(2, 3)
    across = np.cross(row, column)
    moving = len(datasets) == 1 and len(frames) > 1 and "PerFrameFunctionalGroupsSequence" not in datasets[0]
    ordered = frames if moving else sorted(frames, key=lambda frame: float(across @ frame["position"]))
    step = across * frames[0]["thickness"]
    if len(ordered) > 1 and not moving:
        step = (ordered[-1]["position"] - ordered[0]["position"]) / (len(ordered) - 1)
    down, right = frames[0]["spacing"]
    affine = np.eye(4)
    affine[:3] = np.stack([row * right, column * down, step, ordered[0]["position"]], axis=1)
    pixels = np.stack([frame["pixels"] for frame in ordered])
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    voxels = pixels.transpose(0, 2, 1, 3)[..., 0][..., None] if moving else pixels.transpose(3, 2, 1, 0)
    return voxels, LPS_TO_RAS @ affine


def _frames(dataset: Any) -> list[dict[str, Any]]:
    pixels = dataset.pixel_array
    colour = int(dataset.SamplesPerPixel) > 1
    pixels = pixels.reshape(-1, dataset.Rows, dataset.Columns, *pixels.shape[-1:] * colour)
    own = dataset.get("PerFrameFunctionalGroupsSequence") or [dataset] * len(pixels)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    return [_frame(image, group, shared, dataset) for image, group in zip(pixels, own, strict=True)]


def _frame(image: np.ndarray, group: Any, shared: Any, dataset: Any) -> dict[str, Any]:
    def value(sequence: str, keyword: str, default: Any) -> Any:
        for place in (group, shared):
            if sequence in place and keyword in place[sequence][0]:
                return place[sequence][0][keyword].value
        found = dataset.get(keyword)
        return default if found is None or found == "" else found

    slope = float(value("PixelValueTransformationSequence", "RescaleSlope", 1))
    gap = float(value("PixelMeasuresSequence", "SpacingBetweenSlices", 0)) or float(
        value("PixelMeasuresSequence", "SliceThickness", 0)
    )
    segment = group.get("SegmentIdentificationSequence")
    return {
        "pixels": image * slope + float(value("PixelValueTransformationSequence", "RescaleIntercept", 0)),
        "position": np.array(value("PlanePositionSequence", "ImagePositionPatient", (0, 0, 0)), dtype=float),
        "orientation": value("PlaneOrientationSequence", "ImageOrientationPatient", (1, 0, 0, 0, 1, 0)),
        "spacing": [float(each) for each in value("PixelMeasuresSequence", "PixelSpacing", (1, 1))],
        "thickness": abs(gap) or 1.0,
        "segment": int(segment[0].ReferencedSegmentNumber) if segment else 0,
    }


def _labelled(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One frame at each position, with the number of the segment in each pixel."""
    places: dict[tuple[float, ...], list[dict[str, Any]]] = defaultdict(list)
    for frame in frames:
        places[tuple(np.round(frame["position"], 4))].append(frame)
    return [
        {**there[0], "pixels": np.max([frame["pixels"] * frame["segment"] for frame in there], axis=0)}
        for there in places.values()
    ]
