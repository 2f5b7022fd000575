"""Read real scans, preprocess them for a network, and write masks on the voxels of the files.

    python examples/01_scans.py

Writes to runs/scans: the tumour mask as NIfTI, a mask of bright tissue as DICOM-SEG for the head series, and a panel of
both. A known mask and a threshold stand in for a network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meddiffusers.data import Preprocessing, Scan, read, slices, write
from meddiffusers.evaluation.figures.panels import panel

SCANS = Path(__file__).parent / "scans"
OUTPUT = Path("runs", "scans")


def main() -> None:
    """Preprocess a tumour scan and a DICOM series, and write a mask on the voxels of each file."""
    tumour, outline = read(SCANS / "tumour_1_t1ce.nrrd"), read(SCANS / "tumour_1_seg.nrrd")
    head = read(SCANS / "head_pd")
    for scan in (tumour, outline, head):
        place = f"{scan.shape} voxels of {np.round(scan.spacing, 2)} mm, axes to {scan.orientation}"
        print(f"{scan.source}: {scan.modality[0]}, {place}")

    preprocess = Preprocessing(spacing=(1.0, 1.0, None), size=(224, 224, None), intensity_range=(-1, 1))
    preprocessed = preprocess(tumour, outline)
    print(
        f"Preprocessed: {preprocessed.image.shape} voxels of {np.round(preprocessed.image.spacing, 2)} mm, "
        f"axes to {preprocessed.image.orientation}, in [-1, 1]"
    )
    mask = preprocessed.invert(preprocessed.labels)
    overlap = 2 * np.logical_and(mask.array, outline.array).sum() / (mask.array.sum() + outline.array.sum())
    print(f"The mask after the inverse, on {mask.shape} voxels: Dice {overlap:.3f} with the original mask")
    print(f"NIfTI: {write(mask, OUTPUT / 'tumour.nii.gz')}")

    preprocessed = preprocess(head)
    bright = preprocessed.image.like((preprocessed.image.array > 0.5).astype(np.uint8), "labels")
    bright = preprocessed.invert(bright)
    print(f"DICOM-SEG: {write(bright, OUTPUT / 'bright.dcm', series=SCANS / 'head_pd', names={1: 'bright tissue'})}")

    rows = {"tumour, contrast-enhanced T1": overlay(tumour, mask), "bright tissue, PD": overlay(head, bright)}
    panel(rows, tile=1.2).save(OUTPUT / "panel.png")
    print(f"The panel is {OUTPUT / 'panel.png'}")


def overlay(scan: Scan, mask: Scan, count: int = 6) -> list[np.ndarray]:
    """Axial slices (H, W, 3) through the mask, with the mask in red."""
    images, outlines = slices(scan).array[:, 0], slices(mask).array[:, 0] > 0
    marked = np.flatnonzero(outlines.any(axis=(1, 2)))
    chosen = np.linspace(marked[0], marked[-1], count).astype(int)
    grey = np.clip(images[chosen] / np.percentile(images, 99.5), 0, 1)
    others = np.where(outlines[chosen], 0.4 * grey, grey)
    return list(np.stack([grey, others, others], axis=-1))


if __name__ == "__main__":
    main()
