"""Read and write NIfTI (single file, or header and image); read Analyze and values of `datasets.Nifti`.

Files are read completely: nibabel decompresses only the bytes that it needs, and so does not verify the checksum. The
header is compared with the size of the file before voxels are allocated.

Analyze does not define the orientation: the affine is that of nibabel (from SPM's .mat file, else from the origin, else
centred, with x to the left), so left and right are not reliable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spm2analyze import Spm2AnalyzeHeader, Spm2AnalyzeImage
from nibabel.volumeutils import apply_read_scaling
from numpy.lib.recfunctions import structured_to_unstructured

from meddiffusers.data.io.gunzip import beginning, whole
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path

KIND = "a NIfTI or Analyze image"
HEADERS = (Nifti1Header, Nifti1PairHeader, Nifti2Header, Nifti2PairHeader)
HEADER_BYTES = 540  # of NIfTI-2, the longest header
MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
STORED = tuple(
    np.dtype(f"{kind}{size}") for kind, sizes in (("u", "1248"), ("i", "1248"), ("f", "48")) for size in sizes
)

Modality = str | Sequence[str]


def read_nifti(path: Path, modality: Modality) -> Scan:
    """Read .nii, .nii.gz, or a pair .hdr and .img, of which either can be given."""
    if path.suffix.lower() in (".hdr", ".img"):
        upper = path.suffix.isupper()
        header, image = (path.with_suffix(end.upper() if upper else end) for end in (".hdr", ".img"))
        for half in (header, image):
            if not half.exists():
                raise FileNotFoundError(f"{path}: {half.name} is missing; expected {header.name} and {image.name}.")
        return _from_bytes(str(path), header.read_bytes(), image.read_bytes(), modality, header)
    data = path.read_bytes()
    return _from_bytes(str(path), data, data, modality)


def read_nifti_value(value: Any, modality: Modality, source: str) -> Scan:
    """Convert a nibabel image, or the bytes of an undecoded value of `datasets.Nifti`."""
    if isinstance(value, Mapping):
        return _from_bytes(source, value["bytes"], value["bytes"], modality)
    with decoding(source, KIND):
        proxy, header = value.dataobj, value.header
        raw = proxy.get_unscaled() if nibabel.is_proxy(proxy) else np.asanyarray(proxy)
        slope, inter = (proxy.slope, proxy.inter) if nibabel.is_proxy(proxy) else (None, None)
        return _scan(_scaled(raw, slope, inter), value.affine, header, modality, source)


def _from_bytes(source: str, head: bytes, image: bytes, modality: Modality, pair: Path | None = None) -> Scan:
    with decoding(source, KIND):
        header = _header(source, beginning(head, HEADER_BYTES), pair is not None)
        shape, dtype, offset = _promise(source, header)
        data = whole(source, image, offset + math.prod(shape) * dtype.itemsize)
        voxels = _scaled(np.ndarray(shape, dtype, data, offset, order="F"), *header.get_slope_inter())
        known = isinstance(header, Nifti1Header)
        affine = header.get_best_affine() if known else Spm2AnalyzeImage.from_filename(str(pair)).affine
        return _scan(voxels, affine, header, modality, source)


def _header(source: str, data: bytes, pair: bool) -> AnalyzeHeader:
    """Parse the header without nibabel's silent corrections."""
    for kind in (*HEADERS, *((Spm2AnalyzeHeader,) if pair else ())):
        magic = getattr(kind, "pair_magic" if pair else "single_magic", None)
        block = data[: kind.sizeof_hdr]
        if len(block) == kind.sizeof_hdr and kind.may_contain_header(block):
            header = kind(block, check=False)
            if header["sizeof_hdr"] != kind.sizeof_hdr:
                continue
            if magic is None or header["magic"].item().startswith(magic):
                return header
    raise UnreadableError(source, f"no header of {KIND} in its {len(data)} first bytes", KIND)


def _promise(source: str, header: AnalyzeHeader) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and offset of the voxels according to the header; UnreadableError if they are invalid."""
    sizes = header["dim"].tolist()
    if not 1 <= sizes[0] <= 7 or min(sizes[1 : sizes[0] + 1]) < 1:
        raise UnreadableError(source, f"the dimensions {sizes}", "one to seven of at least one voxel")
    shape = tuple(int(size) for size in sizes[1 : sizes[0] + 1])
    code, bits, offset = int(header["datatype"]), int(header["bitpix"]), float(header["vox_offset"])
    if code not in header._data_type_codes.dtype:
        raise UnreadableError(source, f"the data type {code}", "one of NIfTI's data types")
    dtype = header.get_data_dtype()
    if bits != 8 * dtype.itemsize:
        raise UnreadableError(source, f"{bits} bits a voxel for the data type {code}", f"{8 * dtype.itemsize}")
    least = header.sizeof_hdr + 4 if getattr(header, "is_single", False) else 0
    if not offset.is_integer() or not least <= offset < 2**31:
        raise UnreadableError(source, f"voxels from byte {offset}", f"a whole number from {least}")
    return shape, dtype, int(offset)


def _scaled(voxels: np.ndarray, slope: float | None, inter: float | None) -> np.ndarray:
    """Apply slope and intercept: the stored type without scaling, else float32 (float64 if stored so); a copy."""
    if (slope or 1, inter or 0) == (1, 0):
        return voxels.astype(voxels.dtype.newbyteorder("="))
    kind = np.float64 if voxels.dtype.itemsize == 8 and voxels.dtype.kind == "f" else np.float32
    return apply_read_scaling(voxels, kind(slope or 1), kind(inter or 0)).astype(kind, copy=False)


def _scan(voxels: np.ndarray, affine: np.ndarray, header: Any, modality: Modality, source: str) -> Scan:
    """Create a scan from voxels (X, Y, Z, channels), or fewer axes; colours become channels."""
    if voxels.dtype.names:
        voxels = structured_to_unstructured(voxels)
    shape = (*voxels.shape, 1, 1, 1)[: max(3, voxels.ndim)]
    if math.prod(shape[3:]) != max(shape[3:], default=1):
        raise UnreadableError(source, f"{voxels.shape} voxels", "at most one axis of channels", "split it")
    voxels = np.moveaxis(voxels.reshape(*shape[:3], -1, order="F"), -1, 0)
    space, time = header.get_xyzt_units() if isinstance(header, Nifti1Header) else ("mm", "unknown")
    affine = np.diag([*[MILLIMETRES[space]] * 3, 1]) @ affine
    frames = len(voxels) > 1 and time in SECONDS
    step = float(header.get_zooms()[3]) * SECONDS[time] if frames else 0.0
    return scan_read(voxels, affine, modality, source, step)


def write_nifti(scan: Scan, path: Path) -> None:
    """Write a single file, compressed if named .gz, with the time step of frames; booleans become uint8.

    Raises:
        ValueError: a type that NIfTI does not support.
    """
    array = scan.array.astype(np.uint8) if scan.array.dtype == bool else scan.array
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    if array.dtype.newbyteorder("=") not in STORED:
        raise ValueError(
            f"{path}: NIfTI has no voxels of {array.dtype}; expected one of {', '.join(map(str, STORED))}."
        )
    image = nibabel.Nifti1Image(voxels, scan.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm", "sec" if scan.time_step else None)
    if scan.time_step:
        image.header.set_zooms((*scan.spacing, scan.time_step))
    image.set_sform(scan.affine, "scanner")
    image.set_qform(scan.affine, "scanner")
    with atomic_path(path) as staged:
        nibabel.save(image, staged)
