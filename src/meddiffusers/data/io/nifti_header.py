"""Headers of NIfTI and Analyze: their kind, the place of the voxels, and the affine, with repairs that are noted.

What the standard and nibabel repair alike is repaired: codes of qform and sform out of range, pixdim[0] (the sign of
the third axis), and lengths in pixdim of 0 beside a qform or below 0. Everything else that is invalid is refused.
"""

from __future__ import annotations

import math

import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spm2analyze import Spm2AnalyzeHeader

from meddiffusers.data.io.library_errors import UnreadableError

KIND = "a NIfTI or Analyze image"
HEADER_BYTES = 540  # of NIfTI-2, the longest header
SINGLE, PAIRS = (Nifti1Header, Nifti2Header), (Nifti1PairHeader, Nifti2PairHeader, Spm2AnalyzeHeader)
LINE_ENDS = ((0, 0, 0, 0), (13, 10, 26, 10))  # of NIfTI-2
LARGEST_CODE = 5  # of qform and sform
MILLIMETRES = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # by the code of the unit: unknown, metre, millimetre, micrometre
SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
NO_TIME = (0, 32, 40, 48)  # unknown, Hz, ppm, rad/s
CONFLICT = 0.1  # mm
SAME_TURN = 1e-4  # by which a quaternion may be longer than 1


def parse_header(source: str, data: bytes, pair: bool) -> AnalyzeHeader:
    """Parse a header without nibabel's silent corrections.

    Args:
        source: for messages.
        data: at least the header.
        pair: whether the voxels are in another file.
    """
    for kind in PAIRS if pair else SINGLE:
        magic = getattr(kind, "pair_magic" if pair else "single_magic", None)
        block = data[: kind.sizeof_hdr]
        if len(block) == kind.sizeof_hdr and kind.may_contain_header(block):
            header = kind(block, check=False)
            if header["sizeof_hdr"] != kind.sizeof_hdr:
                continue
            if "eol_check" in header and tuple(header["eol_check"].tolist()) not in LINE_ENDS:
                raise UnreadableError(source, "ends of lines that a transfer has changed", "bytes as written")
            if magic is None or header["magic"].item().startswith(magic):
                return header
    raise UnreadableError(source, f"no header of {KIND} in its {len(data)} first bytes", KIND)


def stored_layout(source: str, header: AnalyzeHeader) -> tuple[tuple[int, ...], np.dtype, int]:
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


def scaling_of(source: str, header: AnalyzeHeader) -> tuple[float | None, float | None]:
    """Slope and intercept, None without scaling: a slope of 0 or NaN; UnreadableError if either is infinite."""
    if isinstance(header, Nifti1Header):
        slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
        if math.isinf(slope) or (slope and not math.isnan(slope) and not math.isfinite(intercept)):
            found = f"a slope of {slope:g} and an intercept of {intercept:g}"
            raise UnreadableError(source, found, "finite numbers", "correct scl_slope and scl_inter")
    slope_inter: tuple[float | None, float | None] = header.get_slope_inter()
    return slope_inter


def affine_of(source: str, header: Nifti1Header) -> tuple[np.ndarray, list[str]]:
    """Affine in mm, and notes on repairs: the sform if its code is valid, else the qform, else pixdim alone."""
    header = header.copy()
    notes = _repair_codes(header)
    sform, qform = header["sform_code"] > 0, header["qform_code"] > 0
    if not sform:
        notes += repair_lengths(source, header, bool(qform))
    if not (sform or qform):
        notes.append("neither qform nor sform: left and right, and the position, are a guess")
    if sform and qform:
        notes += _conflict(header)
    if qform and not sform and not _normalise_quaternion(header):
        raise UnreadableError(source, "a qform that is no rotation", "a quaternion not longer than 1", "correct it")
    return in_millimetres(header.get_best_affine(), header, notes), notes


def in_millimetres(affine: np.ndarray, header: AnalyzeHeader, notes: list[str]) -> np.ndarray:
    """The affine of a header in mm; adds a note if the unit is unknown to NIfTI."""
    if not isinstance(header, Nifti1Header):
        return affine
    code = int(header["xyzt_units"]) & 7
    if code not in MILLIMETRES:
        notes.append(f"the unit of length has the code {code}, which NIfTI does not have: taken as mm")
    return np.diag([*[MILLIMETRES.get(code, 1.0)] * 3, 1]) @ affine


def time_step(header: Nifti1Header, notes: list[str]) -> float:
    """Seconds between volumes, 0 if unknown; adds a note if the header has an invalid one."""
    code, step = int(header["xyzt_units"]) & ~7, float(header["pixdim"][4])
    if code in NO_TIME:
        return 0.0
    if code not in SECONDS or not 0 <= step < math.inf:
        notes.append(f"no time step: pixdim[4] is {step:g}, and the unit of time has the code {code}")
        return 0.0
    return step * SECONDS[code]


def _repair_codes(header: Nifti1Header) -> list[str]:
    notes = []
    for name in ("sform_code", "qform_code"):
        if not 0 <= (code := int(header[name])) <= LARGEST_CODE:
            header[name] = 0
            notes.append(f"{name} {code}, which NIfTI does not have: {name.removesuffix('_code')} is not used")
    return notes


def repair_lengths(source: str, header: AnalyzeHeader, qform: bool) -> list[str]:
    """Repair the header's pixdim, where the geometry depends on it; returns notes."""
    notes, pixdim = [], header["pixdim"]
    used = min(int(header["dim"][0]), 3)
    for axis in range(1, 4 if qform else used + 1):
        length = float(pixdim[axis])
        if length < 0:
            pixdim[axis] = -length
            notes.append(f"pixdim[{axis}] is {length:g}: its sign is dropped")
        elif length == 0 and (qform or header["dim"][axis] == 1):
            pixdim[axis] = 1
            if axis <= used and header["dim"][axis] > 1:
                notes.append(f"pixdim[{axis}] is 0: taken as 1 mm, as NIfTI's qform has it")
        elif not 0 < length < math.inf:
            raise UnreadableError(source, f"pixdim[{axis}] of {length:g}", "the edge length of a voxel", "correct it")
    sign = float(pixdim[0])
    if qform and sign not in (1, -1):
        if not 0 <= sign < math.inf:
            raise UnreadableError(source, f"pixdim[0] of {sign:g}", "1 or -1, the sign of the third axis", "correct it")
        pixdim[0] = 1
        notes.append(f"pixdim[0] is {sign:g}: taken as 1, so that the third axis is right-handed")
    return notes


def _conflict(header: Nifti1Header) -> list[str]:
    """Note that qform and sform place voxels more than `CONFLICT` apart."""
    sform, codes = header.get_sform(), (int(header["sform_code"]), int(header["qform_code"]))
    used = f"the sform (code {codes[0]}) is used"
    copy = header.copy()
    try:
        repair_lengths("", copy, qform=True)
        _normalise_quaternion(copy)
        qform = copy.get_qform()
    except ValueError:
        return [f"an invalid qform (code {codes[1]}): {used}"]
    sizes = (*header.get_data_shape(), 1, 1, 1)[:3]
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in sizes], [1])).reshape(4, -1)
    with np.errstate(all="ignore"):
        apart = float(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max())
    if apart <= CONFLICT:
        return []
    return [f"qform (code {codes[1]}) and sform place voxels up to {apart:.3g} mm apart: {used}"]


def _normalise_quaternion(header: Nifti1Header) -> bool:
    """Shorten a quaternion that rounding made longer than 1; False if it is longer than that."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    length = math.sqrt(sum(float(header[name]) ** 2 for name in names))
    if 1 < length <= 1 + SAME_TURN:
        for name in names:
            header[name] = float(header[name]) / length
    return length <= 1 + SAME_TURN
