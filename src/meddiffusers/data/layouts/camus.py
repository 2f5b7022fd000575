"""Write cardiac phantoms in the folder layout of CAMUS (half cycles) or of its extension TED (full cycles).

half cycle   patient0001/patient0001_4CH_half_sequence{,_gt}, patient0001_4CH_{ED,ES}{,_gt}, Info_4CH.cfg
full cycle   patient001/patient001_4CH_sequence{,_gt}, patient001_4CH_info.cfg
splits       subGroup1_{training,validation,testing}.txt, one name per line; at most ten folds

A sequence is one volume with the axes across the beam, along the beam, and time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from meddiffusers.data.io import write
from meddiffusers.data.layouts.folders import new_folder
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.heart import VIEWS
from meddiffusers.data.phantoms.cardiac.phantom import SHAPE, SPACING
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path

ENDINGS = (".nii.gz", ".mhd")
_FOLDS = 10


def write_camus(
    seeds: Iterable[int],
    folder: str | Path,
    *,
    half_cycle: bool = False,
    frames: int = 25,
    shape: tuple[int, int] = SHAPE,
    spacing: float = SPACING,
    ending: str = ".nii.gz",
) -> Path:
    """Write both views of `CardiacPhantom(seed)` for every seed.

    Args:
        seeds: Seeds of the phantoms, which are the patients' numbers too.
        folder: New or empty folder. With three patients or more, it also gets lists of splits.
        half_cycle: Write sequences from end diastole to end systole instead of to the next end diastole.
        frames: Number of frames of a sequence, at least 3.
        shape: Rows (along the beam) and columns of an image.
        spacing: Edge length of a pixel in mm.
        ending: ".nii.gz", or ".mhd" (requires the extra `itk`).

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder is not empty.
        ValueError: If there are no seeds, seeds are equal, negative or have too many digits for a name, or `frames` or
            `ending` is invalid.
    """
    seeds, digits = list(seeds), 4 if half_cycle else 3
    _check(seeds, digits, frames, ending)
    folder = new_folder(folder)
    names = [f"patient{seed:0{digits}d}" for seed in seeds]
    for seed, name in zip(seeds, names, strict=True):
        for view in VIEWS:
            phantom = CardiacPhantom(seed, view)
            phases = phantom.phases(frames, half_cycle)
            images, labels = phantom.images(phases, shape, spacing), phantom.labels(phases, shape, spacing)
            info = _info(phantom, phases)
            part = _Part(folder / name / f"{name}_{view}", spacing, ending)
            if half_cycle:
                part.write("half_sequence", images, labels)
                part.write("ED", images[:1], labels[:1])
                part.write("ES", images[-1:], labels[-1:])
                _write_lines(folder / name / f"Info_{view}.cfg", info)
            else:
                part.write("sequence", images, labels)
                _write_lines(folder / name / f"{name}_{view}_info.cfg", info)
    _write_splits(folder, sorted(names))
    return folder


def _check(seeds: Sequence[int], digits: int, frames: int, ending: str) -> None:
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0 or max(seeds) >= 10**digits:
        raise ValueError(f"Got the seeds {seeds}; expected different ones from 0 to {10**digits - 1}, at least one.")
    if frames < 3:
        raise ValueError(f"Got frames = {frames}; expected at least 3.")
    if ending not in ENDINGS:
        raise ValueError(f"Got the ending {ending!r}; expected one of {', '.join(ENDINGS)}.")


class _Part:
    """Writes images and label maps of one view.

    Args:
        start: Path without the end of the file name.
        spacing: Edge length of a pixel in mm.
        ending: Ending of the file name.
    """

    def __init__(self, start: Path, spacing: float, ending: str) -> None:
        self.start, self.ending = start, ending
        self.affine = np.diag([-spacing, -spacing, 1.0, 1.0])  # the axes of ITK, which CAMUS uses

    def write(self, name: str, images: np.ndarray, labels: np.ndarray) -> None:
        for end, frames, modality in (("", images, "us"), ("_gt", labels, LABELS)):
            path = self.start.with_name(f"{self.start.name}_{name}{end}{self.ending}")
            write(Scan(np.ascontiguousarray(frames.T), self.affine, modality), path)


def _info(phantom: CardiacPhantom, phases: np.ndarray) -> list[str]:
    """Lines of the .cfg file. Frames are counted from 1, EF is in percent, FrameRate in frames per second."""
    end_diastole, end_systole = phantom.ed_es_indices(phases)
    patient = np.random.default_rng([phantom.seed, len(VIEWS) + 1])
    seconds = (phases[-1] - phases[0]) * phantom.heart.cycle.seconds
    values: Mapping[str, object] = {
        "ED": end_diastole + 1,
        "ES": end_systole + 1,
        "NbFrame": len(phases),
        "Sex": patient.choice(["F", "M"], p=[0.34, 0.66]),
        "Age": round(float(np.clip(patient.normal(65, 14), 18, 95))),
        "ImageQuality": phantom.heart.quality,
        "EF": round(100 * phantom.ejection_fraction),
        "FrameRate": round((len(phases) - 1) / seconds, 1),
    }
    return [f"{key}: {value}" for key, value in values.items()]


def _write_splits(folder: Path, names: Sequence[str]) -> None:
    """Every patient is in the test split of one fold and in the validation split of the previous one."""
    folds = min(_FOLDS, len(names))
    if folds < 3:
        return
    for fold in range(folds):
        testing, validation = names[fold::folds], names[(fold + 1) % folds :: folds]
        parts = {
            "training": [name for name in names if name not in {*testing, *validation}],
            "validation": validation,
            "testing": testing,
        }
        for part, members in parts.items():
            _write_lines(folder / f"subGroup{fold + 1}_{part}.txt", members)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_path(path) as staged:
        staged.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
