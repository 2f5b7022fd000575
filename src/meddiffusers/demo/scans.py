"""Real scans in several file formats, and phantoms with their labels."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.cardiac.phantom import CardiacPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.data.scan import Scan
from meddiffusers.demo.outlines import outlined, spread_over
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel

TUMOURS = ("tumour_1", "tumour_2")
COLUMNS = 6
AGES = (22, 35, 48, 61, 74, 87)
DIFFICULTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEED, SIZE = 4, 160  # pixels of a phantom slice


def scans_section(scans: Path) -> Section:
    """Build the section from the real scans in the folder `scans`."""
    start = time.perf_counter()
    tumours = [(read(scans / f"{name}_t1ce.nrrd"), read(scans / f"{name}_seg.nrrd")) for name in TUMOURS]
    head, heart = read(scans / "head_pd"), read(scans / "heart_cine.dcm")
    aged, volumes = _ageing()
    tumour_slices = _phantom_tumours()
    return Section(
        key="scans",
        title="Real scans and phantoms",
        text="The package reads NRRD, DICOM and other formats into one orientation. Phantoms are simulated brains and "
        "hearts with exact labels, generated from a seed. All shipped models but the digits were trained on them.",
        figures={
            "Real tumours (T1 with contrast agent) with their reference outlines, and phantom tumours of increasing "
            "difficulty. Of five simulated raters, the one with the largest mask is shown in red, the one with the "
            "smallest in yellow.": panel(
                {
                    "real 1": _outlined(*tumours[0]),
                    "real 2": _outlined(*tumours[1]),
                    "phantom": tumour_slices["t1ce"],
                    "phantom, FLAIR": tumour_slices["flair"],
                },
                {"phantom": [f"difficulty {difficulty:g}" for difficulty in DIFFICULTIES]},
                tile=1.3,
            ),
            "A real head (PD, a DICOM series) and a phantom head with skull": panel(
                {"real": _spread(slices(head).array[:, 0]), "phantom": _phantom_head()}, tile=1.3
            ),
            "The same phantom at six ages. The titles give the volume of the lateral ventricles.": panel(
                {"T1": aged},
                {"T1": [f"{age} years, {ml:.0f} ml" for age, ml in zip(AGES, volumes, strict=True)]},
                tile=1.3,
            ),
            "A real heart (cine MR), and a phantom heart over one cardiac cycle as ultrasound and as labels": panel(
                {"real": _spread(heart.array[..., 0].swapaxes(1, 2)), **_phantom_heart()}, tile=1.3
            ),
        },
        table=[
            ["scan", "voxels", "spacing, mm", "axes", "data type"],
            *(_row(scan) for scan in (*(s for s, _ in tumours), head, heart)),
        ],
        seconds=time.perf_counter() - start,
    )


def _row(scan: Scan) -> list[str]:
    channels = f", {len(scan.array)} frames" if len(scan.array) > 1 else ""
    millimetres = " × ".join(f"{length:.3g}" for length in scan.spacing)
    voxels = " × ".join(map(str, scan.shape)) + channels
    return [Path(scan.source).stem, voxels, millimetres, scan.orientation, str(scan.array.dtype)]


def _spread(images: np.ndarray, first: float = 0.15, last: float = 0.85) -> list[np.ndarray]:
    """COLUMNS evenly spaced images of (B, H, W) between two fractions of the stack, each scaled to [0, 1]."""
    chosen = np.linspace(first * len(images), last * len(images) - 1, COLUMNS).round().astype(int)
    return [np.clip(image / max(np.percentile(image, 99.5), 1e-6), 0, 1) for image in images[chosen]]


def _outlined(scan: Scan, mask: Scan) -> list[np.ndarray]:
    """Axial slices (H, W, 3) that contain the mask, with its outline."""
    images, marks = slices(scan).array[:, 0], slices(mask).array[:, 0] > 0
    return [outlined(images[index], [marks[index]]) for index in spread_over(marks, COLUMNS)]


def _phantom_tumours(modalities: tuple[str, ...] = ("t1ce", "flair")) -> dict[str, list[np.ndarray]]:
    """Slices of each modality with the outlines of the raters with the largest and the smallest mask."""
    tiles: dict[str, list[np.ndarray]] = {modality: [] for modality in modalities}
    for index, difficulty in enumerate(DIFFICULTIES):
        phantom = BrainPhantom(SEED + index, lesion="tumour", difficulty=difficulty)
        heights = phantom.lesion_heights()
        subject = phantom.slice(float(heights[len(heights) // 2]) if len(heights) else 10.0, SIZE, modalities)
        marks = slices(subject.raters).array[0] > 0 if subject.raters else np.zeros((1, SIZE, SIZE), bool)
        areas = marks.sum(axis=(1, 2))
        extremes = [marks[areas.argmax()], marks[areas.argmin()]]
        for modality in modalities:
            tiles[modality].append(outlined(slices(subject.images[modality]).array[0, 0], extremes))
    return tiles


def _phantom_head() -> list[np.ndarray]:
    volume = BrainPhantom(SEED, age=45).volume((1.6, 1.6, 10.0), ("pd",), skull=True)
    return _spread(slices(volume.images["pd"]).array[:, 0], 0.36, 0.8)


def _ageing() -> tuple[list[np.ndarray], list[float]]:
    """T1-weighted slices of one phantom at each of AGES, and the ml of its lateral ventricles."""
    tiles, volumes = [], []
    for age in AGES:
        phantom = BrainPhantom(SEED, age=age)
        tiles.append(slices(phantom.slice(18.0, SIZE, ("t1",)).images["t1"]).array[0, 0] / 1000)
        volumes_mm3 = phantom.volume(3.0, ()).volumes
        volumes.append(sum(volumes_mm3[label] for label in LATERAL_VENTRICLES) / 1000)
    return tiles, volumes


def _phantom_heart() -> dict[str, list[np.ndarray]]:
    heart = CardiacPhantom(SEED)
    phases = heart.phases(COLUMNS)
    return {"phantom": list(heart.images(phases) / 255), "labels": list(heart.labels(phases) / 3)}
