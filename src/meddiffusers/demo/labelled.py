"""Labelled images: slices in four modalities drawn of a tumour's label map as it is, moved, grown and left out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.datasets.labelled_slices import label_ids
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.run import generate_slices
from meddiffusers.evaluation.metrics.overlap import overlap
from meddiffusers.generation.label_maps import sample_shape
from meddiffusers.hub.load import load

REPOSITORY, SEGMENTER = "ldm-brain-mask-2d", "seg-ddpm-brain"
PHANTOM_SEED, DIFFICULTY = 7, 0.2


def labelled_section(checkpoints: Path) -> Section:
    """The section; the model and the segmenter that looks for the tumours come from the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    segmenter: Any = load(checkpoints / SEGMENTER)
    for each in (pipeline, segmenter):
        each.set_progress_bar_config(disable=True)
    maps = _maps(sample_shape(pipeline)[0], list(pipeline.unet.mask_labels.values()))
    masks = np.stack(list(maps.values()))
    images = generate_slices(pipeline, masks)
    found = segmenter(torch.from_numpy(images), generator=torch.Generator().manual_seed(0)).mask
    whole = overlap((found > 0).astype(np.uint8), (masks > 0).astype(np.uint8), [1], (1.0, 1.0)).dice[:, 0]
    dice = np.where(masks.any(axis=(1, 2)), whole, np.nan)  # of no tumour there is none
    figures = ["–" if np.isnan(each) else f"{each:.2f}" for each in dice]
    top = max(pipeline.unet.mask_labels)
    rows = {"asked": masks / top}
    rows |= {name: images[:, number] for number, name in enumerate(pipeline.modalities)}
    rows |= {"found": found / top}
    shown = panel(rows, {"asked": list(maps)}, ranges=dict.fromkeys(rows, (0.0, 1.0)))
    return Section(
        key="labelled",
        title="Images of label maps",
        text="Slices in four modalities drawn of label maps, so that images come with their labels. The segmentation "
        "model, which learnt from phantoms, looks for the tumours in what was drawn.",
        figures={"Label maps, the slices drawn of them, and what the segmentation model finds in these": shown},
        table=[["map", *maps], ["Dice of asked and found", *figures]],
        metrics={"Dice of asked and found tumours": float(np.nanmean(dice))},
        seconds=time.perf_counter() - start,
    )


def _maps(size: int, classes: list[str]) -> dict[str, np.ndarray]:
    """A phantom's tumour in a slice of so many pixels, and what becomes of it."""
    phantom = BrainPhantom(PHANTOM_SEED, lesion="tumour", difficulty=DIFFICULTY)
    case = phantom.slice(float(np.median(phantom.lesion_heights())), size, ("t1",))
    if case.lesions is None:
        raise ValueError(f"Phantom {PHANTOM_SEED} has no tumour; expected one to draw around.")
    tumour = label_ids(slices(case.lesions).array[0, 0], classes)
    oedema = 1 + classes.index("oedema")
    grown = np.where((tumour == 0) & binary_dilation(tumour > 0, iterations=4), oedema, tumour)
    return {
        "a tumour": tumour,
        "mirrored": tumour[:, ::-1].copy(),
        "moved": np.roll(tumour, size // 12, axis=0),
        "more oedema": grown,
        "oedema alone": np.where(tumour > 0, oedema, 0),
        "none": np.zeros_like(tumour),
    }
