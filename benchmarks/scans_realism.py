"""Benchmark realism: T1 slices of phantoms compared with two real brains at the same heights.

Colin27 is one subject, scanned 27 times; ICBM 152 is the average of many, and the template of the phantom. The distance
between the two is a reference for the distance between real sources. The figure also shows T1ce tumour scans.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain.phantom import FIELD_OF_VIEW, BrainPhantom
from meddiffusers.data.phantoms.brain.warp import CENTRE
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.scan import Scan
from meddiffusers.evaluation.metrics import image_features
from meddiffusers.evaluation.metrics.kid import kid_score
from meddiffusers.evaluation.metrics.realism import Source, appearance, normalise, realism_figure

SIZE, COUNT = 128, 64
SPACING = FIELD_OF_VIEW / SIZE  # mm
HEIGHTS = np.linspace(-20, 45, COUNT)  # mm above the anterior commissure
COLIN = Path("/usr/share/mricron/templates/ch2bet.nii.gz")  # from Debian's package mricron-data
SCANS = Path("examples/scans")
FIGURE = Path("docs/figures/realism.png")


def realism(seed: int, colin: Path) -> dict[str, Any]:
    """Print the distances between the sources, and write the figure to `FIGURE`."""
    sources = {"phantom T1": _phantom(seed), "ICBM 152 T1": _template(_icbm())}
    if colin.exists():
        sources["Colin27 T1"] = _template(colin)
    else:
        print(f"{colin} is not there: no Colin27. Install mricron-data, or give --colin PATH to ch2bet.nii.gz.")
    distances = _distances(sources)
    tumours = {f"tumour {number} T1ce": _tumour(SCANS / f"tumour_{number}_t1ce.nrrd") for number in (1, 2)}
    FIGURE.parent.mkdir(exist_ok=True)
    realism_figure({**sources, **tumours}).save(FIGURE, optimize=True)
    print(f"→ {FIGURE}")
    return {"features": image_features.NAME, "slices": COUNT, "distances": distances}


def _distances(sources: Mapping[str, Source]) -> dict[str, Any]:
    """For each pair of sources, the KID of images in [0, 1] and the distances of appearance statistics."""
    extractor = image_features.EfficientNetLite0()
    images = {name: np.nan_to_num(normalise(stack).clip(0, 1)) for name, (stack, _) in sources.items()}
    features = {name: extractor(stack) for name, stack in images.items()}
    appearances = {name: appearance(*source) for name, source in sources.items()}
    results = {}
    for one, other in combinations(sources, 2):
        kid, distances = kid_score(features[other], features[one]), appearances[one].distances(appearances[other])
        print(f"{one} to {other}: {kid}\n    {distances}")
        results[f"{one} to {other}"] = {"kid": asdict(kid), **asdict(distances)}
    return results


def _phantom(seed: int) -> Source:
    """One slice of each of `COUNT` healthy phantoms."""
    phantoms = [BrainPhantom(1000 * seed + number) for number in range(COUNT)]
    subjects = [
        phantom.slice(float(height), SIZE, ("t1",))
        for phantom, height in zip(phantoms, np.roll(HEIGHTS, seed), strict=True)
    ]
    return np.concatenate([slices(subject.images["t1"]).array[:, 0] for subject in subjects]), SPACING


def _template(path: Path) -> Source:
    """A brain in MNI space in the phantom's field of view; each pixel is the mean of 2 × 2 points."""
    image: Any = nibabel.load(path)
    points = (np.arange(2 * SIZE) - SIZE + 0.5) * SPACING / 2
    grid = np.meshgrid(points + CENTRE[0], points + CENTRE[1], HEIGHTS, indexing="ij")
    index = nibabel.affines.apply_affine(np.linalg.inv(image.affine), np.stack(grid, axis=-1))
    values = ndimage.map_coordinates(image.get_fdata(dtype=np.float32), np.moveaxis(index, -1, 0), order=1)
    values = values.reshape(SIZE, 2, SIZE, 2, COUNT).mean(axis=(1, 3))
    affine = np.diag([SPACING, SPACING, HEIGHTS[1] - HEIGHTS[0], 1])
    return slices(Scan(values, affine, "t1")).array[:, 0], SPACING


def _tumour(path: Path) -> Source:
    """Middle slices of a head with skull; the air around it is 0."""
    scan = read(path)
    stack = slices(scan, leave_out=(6, 6)).array[:, 0]
    tissue = ndimage.gaussian_filter(stack.astype(np.float32), (0, 2, 2)) > threshold_otsu(stack) / 2
    filled = np.stack([ndimage.binary_fill_holes(mask) for mask in tissue])
    return np.where(filled, np.maximum(stack, 1), 0), scan.spacing[0]


def _icbm() -> Path:
    """Path of the template in the package nilearn, which is slow to import."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise ImportError('nilearn is not installed; expected it from "meddiffusers[phantom]".')
    return Path(found.origin).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
