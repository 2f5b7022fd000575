"""Real scans and phantoms side by side: what the package reads, and what it makes where no patient may be shown."""

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
COUNT = 6  # images in a row
AGES = (22, 35, 48, 61, 74, 87)
DIFFICULTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEED = 4


def scans_section(scans: Path) -> Section:
    """The section; the real scans come from the folder `scans`."""
    start = time.perf_counter()
    tumours = [(read(scans / f"{name}_t1ce.nrrd"), read(scans / f"{name}_seg.nrrd")) for name in TUMOURS]
    head, heart = read(scans / "head_pd"), read(scans / "heart_cine.dcm")
    aged, volumes = _ageing()
    return Section(
        key="scans",
        title="Scans in, phantoms out",
        text="Real scans that ship with the project, and phantoms: random brains and hearts that follow from a seed "
        "and carry their labels. Phantoms train and test everything else; they are not patients.",
        figures={
            "Real tumours with the outlines given (T1 with contrast), and phantom tumours from easy to hard, outlined "
            "as the most generous (red) and the most sparing (yellow) of five simulated raters do": panel(
                {
                    "real 1": _outlined(*tumours[0]),
                    "real 2": _outlined(*tumours[1]),
                    "phantom": _phantom_tumours("t1ce"),
                    "phantom, FLAIR": _phantom_tumours("flair"),
                },
                {"phantom": [f"difficulty {difficulty:g}" for difficulty in DIFFICULTIES]},
                tile=1.3,
            ),
            "A real head (PD, DICOM series) and a phantom's, both with skull": panel(
                {"real": _spread(slices(head).array[:, 0]), "phantom": _phantom_head()}, tile=1.3
            ),
            "One phantom person at six ages; above each image the volume of the lateral ventricles": panel(
                {"T1": aged},
                {"T1": [f"{age} years, {ml:.0f} ml" for age, ml in zip(AGES, volumes, strict=True)]},
                tile=1.3,
            ),
            "A real beating heart (MR), and a phantom's over one beat as ultrasound and as labels": panel(
                {"real": _spread(heart.array[..., 0].swapaxes(1, 2)), **_phantom_heart()}, tile=1.3
            ),
        },
        table=[
            ["scan", "voxels", "mm", "axes", "type"],
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
    """COUNT of the images (N, H, W) between two parts of the way, each in [0, 1] by its own brightest part."""
    chosen = np.linspace(first * len(images), last * len(images) - 1, COUNT).round().astype(int)
    return [np.clip(image / max(np.percentile(image, 99.5), 1e-6), 0, 1) for image in images[chosen]]


def _outlined(scan: Scan, mask: Scan) -> list[np.ndarray]:
    """Axial slices (H, W, 3) that meet the mask, its border in red."""
    images, marks = slices(scan).array[:, 0], slices(mask).array[:, 0] > 0
    return [outlined(images[index], [marks[index]]) for index in spread_over(marks, COUNT)]


def _phantom_tumours(modality: str) -> list[np.ndarray]:
    tiles = []
    for index, difficulty in enumerate(DIFFICULTIES):
        subject = BrainPhantom(SEED + index, lesion="tumour", difficulty=difficulty)
        heights = subject.lesion_heights()
        case = subject.slice(float(heights[len(heights) // 2]) if len(heights) else 10.0, 160, (modality,))
        marks = slices(case.raters).array[0] > 0 if case.raters else np.zeros((1, 160, 160), bool)
        areas = marks.sum(axis=(1, 2))
        tiles.append(
            outlined(slices(case.images[modality]).array[0, 0], [marks[areas.argmax()], marks[areas.argmin()]])
        )
    return tiles


def _phantom_head() -> list[np.ndarray]:
    volume = BrainPhantom(SEED, age=45).volume((1.6, 1.6, 6.0), ("pd",), skull=True)
    return _spread(slices(volume.images["pd"]).array[:, 0], 0.36, 0.8)


def _ageing() -> tuple[list[np.ndarray], list[float]]:
    """T1 of one seed at each of AGES, and the ml of its lateral ventricles."""
    tiles, volumes = [], []
    for age in AGES:
        subject = BrainPhantom(SEED, age=age)
        tiles.append(slices(subject.slice(18.0, 160, ("t1",)).images["t1"]).array[0, 0] / 1000)
        whole = subject.volume(2.0, ()).volumes
        volumes.append(sum(whole[label] for label in LATERAL_VENTRICLES) / 1000)
    return tiles, volumes


def _phantom_heart() -> dict[str, list[np.ndarray]]:
    heart = CardiacPhantom(SEED)
    phases = heart.phases(COUNT)
    return {"phantom": list(heart.images(phases) / 255), "labels": list(heart.labels(phases) / 3)}
