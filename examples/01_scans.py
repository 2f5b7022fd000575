"""Real scans in, preprocessed for a network, and masks back on the voxels of the files.

    python examples/01_scans.py

Writes into runs/scans: the tumour mask as NIfTI, a mask of bright tissue as DICOM-SEG beside the head series that it
outlines, and a image of both. In place of a network stand a mask that is known and a threshold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meddiffusers.data.io import read, write
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.preprocessing.transforms import Preprocessing
from meddiffusers.data.scan import Scan
from meddiffusers.evaluation.figures.panels import panel

SCANS = Path(__file__).parent / "scans"
OUTPUT = Path("runs", "scans")


def main() -> None:
    """Prepare a tumour scan and a DICOM series, restore a mask for each, write them."""
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
    print(f"The mask back on {mask.shape} voxels: Dice {overlap:.3f} to the mask that went in")
    print(f"NIfTI: {write(mask, OUTPUT / 'tumour.nii.gz')}")

    preprocessed = preprocess(head)
    bright = preprocessed.image.like((preprocessed.image.array > 0.5).astype(np.uint8), "labels")
    bright = preprocessed.invert(bright)
    print(f"DICOM-SEG: {write(bright, OUTPUT / 'bright.dcm', series=SCANS / 'head_pd', names={1: 'bright tissue'})}")

    rows = {"tumour, T1 with contrast": coloured(tumour, mask), "bright tissue, PD": coloured(head, bright)}
    panel(rows, tile=1.2).save(OUTPUT / "panel.png")
    print(f"The panel is {OUTPUT / 'panel.png'}")


def coloured(scan: Scan, mask: Scan, count: int = 6) -> list[np.ndarray]:
    """Axial slices (H, W, 3) from where the mask is, the mask in red."""
    images, outlines = slices(scan).array[:, 0], slices(mask).array[:, 0] > 0
    found = np.flatnonzero(outlines.any(axis=(1, 2)))
    chosen = np.linspace(found[0], found[-1], count).astype(int)
    grey = np.clip(images[chosen] / np.percentile(images, 99.5), 0, 1)
    others = np.where(outlines[chosen], 0.4 * grey, grey)
    return list(np.stack([grey, others, others], axis=-1))


if __name__ == "__main__":
    main()
