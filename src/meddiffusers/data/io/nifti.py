"""Read and write NIfTI (single file, or header and image); read Analyze, MGH, and values of `datasets.Nifti`.

Files are read completely: nibabel decompresses only the bytes that it needs, and so does not verify the checksum. The
header is compared with the size of the file before voxels are allocated; `nifti_header` gives the affine.

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
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spm2analyze import Spm2AnalyzeImage
from nibabel.volumeutils import apply_read_scaling
from numpy.lib.recfunctions import structured_to_unstructured

from meddiffusers.data.io.gunzip import MAGIC, beginning, is_bare, unpacked, whole
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.io.nifti_header import (
    HEADER_BYTES,
    KIND,
    affine_of,
    in_millimetres,
    parse_header,
    repair_lengths,
    scaling_of,
    stored_layout,
    time_step,
)
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path

TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
MGH, MGH_OFFSET = "an MGH image of FreeSurfer", 284  # bytes before the voxels
LONGEST_FOOTER = 1 << 20  # bytes behind them: scanner parameters, and the commands that made the file
PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
STORED = tuple(
    np.dtype(f"{kind}{size}") for kind, sizes in (("u", "1248"), ("i", "1248"), ("f", "48")) for size in sizes
)

Modality = str | Sequence[str]


def read_nifti(path: Path, modality: Modality) -> Scan:
    """Read .nii, .nii.gz, or a pair .hdr and .img, of which either can be given."""
    if not path.name.lower().endswith(PAIR):
        data = path.read_bytes()
        return _from_bytes(str(path), data, data, modality)
    header, image = pair_of(path)
    for half in (header, image):
        if not half.is_file():
            raise FileNotFoundError(f"{path}: {half.name} is missing; expected the files {header.name}, {image.name}.")
    return _from_bytes(str(path), header.read_bytes(), image.read_bytes(), modality, header)


def read_mgh(path: Path, modality: Modality) -> Scan:
    """Read FreeSurfer's .mgh or .mgz; texts behind the voxels are dropped."""
    source, data = str(path), path.read_bytes()
    with decoding(source, MGH):
        head = beginning(source, data, MGH_OFFSET)
        if len(head) < MGH_OFFSET or int.from_bytes(head[:4], "big") != 1:
            raise UnreadableError(source, f"no header of MGH in its {len(data)} first bytes", MGH)
        header = MGHHeader(head[: MGHHeader.template_dtype.itemsize], check=False)
        types: Any = header._data_type_codes.dtype
        sizes, code = header["dims"].tolist(), int(header["type"])
        if min(sizes) < 1 or code not in types:
            raise UnreadableError(source, f"the dimensions {sizes} and the data type {code}", "voxels of MGH")
        dtype, notes = np.dtype(types[code]).newbyteorder(">"), list[str]()
        size = MGH_OFFSET + math.prod(sizes) * dtype.itemsize
        content = unpacked(source, data, size, LONGEST_FOOTER) if data[:2] == MAGIC else data
        if len(content) < size:
            raise UnreadableError(source, f"{len(content)} bytes", f"the {size} bytes that its header promises")
        if not any(head[28:30]):  # goodRASFlag, which nibabel repairs
            notes.append("no orientation (goodRASFlag 0): that of a coronal scan of 1 mm is taken, as FreeSurfer does")
        shape = tuple(sizes[: 4 if sizes[3] > 1 else 3])
        voxels = np.ndarray(shape, dtype, content, MGH_OFFSET, order="F").astype(dtype.newbyteorder("="))
        return _scan(voxels, header.get_affine(), header, modality, source, notes)


def pair_of(path: Path) -> tuple[Path, Path]:
    """Header and image of which `path` is one."""
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    stem = path.name.removesuffix(packed)
    ends = (".HDR", ".IMG") if Path(stem).suffix.isupper() else (".hdr", ".img")
    header, image = (path.with_name(Path(stem).stem + end + packed) for end in ends)
    return header, image


def read_nifti_value(value: Any, modality: Modality, source: str) -> Scan:
    """Convert a nibabel image, or the bytes of an undecoded value of `datasets.Nifti`."""
    if isinstance(value, Mapping):
        return _from_bytes(source, value["bytes"], value["bytes"], modality)
    with decoding(source, KIND):
        if value.affine is None:
            raise UnreadableError(source, "an image without an affine", "a place of its voxels", "give it one")
        proxy, header = value.dataobj, value.header
        raw = proxy.get_unscaled() if nibabel.is_proxy(proxy) else np.asanyarray(proxy)
        slope, inter = (proxy.slope, proxy.inter) if nibabel.is_proxy(proxy) else (None, None)
        notes: list[str] = []
        affine = in_millimetres(value.affine, header, notes)
        return _scan(_scaled(raw, slope, inter, source), affine, header, modality, source, notes)


def is_unchanged(image: Any) -> bool:
    """Whether a nibabel image is that of its file, which can then be read instead."""
    path = image.get_filename()
    if not path or not nibabel.is_proxy(image.dataobj) or not Path(path).is_file():
        return False
    stored: Any = nibabel.load(path)
    return bool(stored.header == image.header and np.array_equal(stored.affine, image.affine))


def is_plain(path: Path) -> bool:
    """Whether a file is single NIfTI-1 without texts, extensions, or a header to repair: what `read` would drop.

    Texts may identify a patient: description, names and extensions of the header, names that gzip stores with each of
    its streams, and bytes behind the voxels.
    """
    source = str(path)
    with path.open("rb") as file:
        packed = file.read(2) == MAGIC
        file.seek(0)
        data = file.read(-1 if packed else HEADER_BYTES)
    if path.name.lower().endswith(".gz") != packed:
        return False
    try:
        block = beginning(source, data, HEADER_BYTES)
        header = parse_header(source, block, pair=False)
        if not isinstance(header, Nifti1Header) or isinstance(header, Nifti2Header):
            return False
        shape, dtype, offset = stored_layout(source, header)
        size = offset + math.prod(shape) * dtype.itemsize
        bare = is_bare(data, size) if packed else path.stat().st_size == size
        texts = any(header[field].item().strip(b"\0 ") for field in TEXTS)
        followed = header["vox_offset"] != header.single_vox_offset or any(block[348:352])
        return bare and not (texts or followed or affine_of(source, header)[1])
    except ValueError:
        return False


def _from_bytes(source: str, head: bytes, image: bytes, modality: Modality, pair: Path | None = None) -> Scan:
    with decoding(source, KIND):
        header = parse_header(source, beginning(source, head, HEADER_BYTES), pair is not None)
        shape, dtype, offset = stored_layout(source, header)
        data = whole(source, image, offset + math.prod(shape) * dtype.itemsize)
        voxels = _scaled(np.ndarray(shape, dtype, data, offset, order="F"), *scaling_of(source, header), source)
        if isinstance(header, Nifti1Header):
            affine, notes = affine_of(source, header)
        else:
            affine, notes = _analyze_affine(source, pair or Path(source), header)
        return _scan(voxels, affine, header, modality, source, notes)


def _analyze_affine(source: str, path: Path, header: AnalyzeHeader) -> tuple[np.ndarray, list[str]]:
    """Affine by SPM's matrix beside the header if there is one, else by the header; and notes on repairs."""
    matrix = path.with_suffix(".mat")
    if matrix.exists() and not matrix.is_file():
        raise UnreadableError(source, f"{matrix.name}, which is no file", "SPM's matrix", "remove it")
    notes = [] if matrix.exists() else repair_lengths(source, header.copy(), qform=False)
    try:
        affine: np.ndarray = Spm2AnalyzeImage.from_filename(str(path)).affine
    except Exception:
        found = f"{matrix.name} beside it, which cannot be decoded" if matrix.exists() else "an invalid header"
        raise UnreadableError(source, found, "a header of Analyze, and a matrix of SPM") from None
    return affine, notes


def _scaled(voxels: np.ndarray, slope: float | None, inter: float | None, source: str) -> np.ndarray:
    """Apply slope and intercept: the stored type without scaling, else float32 (float64 if stored so); a copy."""
    if (slope or 1, inter or 0) == (1, 0):
        return voxels.astype(voxels.dtype.newbyteorder("="))
    kind = np.float64 if voxels.dtype.itemsize == 8 and voxels.dtype.kind == "f" else np.float32
    scaled: np.ndarray = apply_read_scaling(voxels, kind(slope or 1), kind(inter or 0)).astype(kind, copy=False)
    if not np.isfinite(scaled).all() and np.isfinite(voxels).sum() > np.isfinite(scaled).sum():
        found = f"a slope of {slope:g} and an intercept of {inter:g} that lead to infinite voxels"
        raise UnreadableError(source, found, "finite voxels", "correct scl_slope and scl_inter")
    return scaled


def _scan(
    voxels: np.ndarray, affine: np.ndarray, header: Any, modality: Modality, source: str, notes: list[str]
) -> Scan:
    """Create a scan from voxels (X, Y, Z, channels), or fewer axes; colours become channels."""
    if voxels.dtype.names:
        voxels = structured_to_unstructured(voxels)
    shape = (*voxels.shape, 1, 1, 1)[: max(3, voxels.ndim)]
    if math.prod(shape[3:]) != max(shape[3:], default=1):
        raise UnreadableError(source, f"{voxels.shape} voxels", "at most one axis of channels", "split it")
    frames = isinstance(header, Nifti1Header) and len(shape) > 3 and shape[3] > 1
    voxels = np.moveaxis(voxels.reshape(*shape[:3], -1, order="F"), -1, 0)
    return scan_read(voxels, affine, modality, source, time_step(header, notes) if frames else 0.0, notes)


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
