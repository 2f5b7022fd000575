"""Images from label maps: slices in four modalities for a tumour, and for changed and empty label maps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

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
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

REPOSITORY, SEGMENTER = "ldm-brain-mask-2d", "seg-ddpm-brain"
PHANTOM_SEED, DIFFICULTY = 7, 0.2


def labelled_section(checkpoints: Path, num_inference_steps: int = 50) -> Section:
    """Build the section from the model and the segmentation model in the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline = cast(LatentDiffusionPipeline, load(checkpoints / REPOSITORY))
    segmenter = cast(ConditionalSegmentationPipeline, load(checkpoints / SEGMENTER))
    for each in (pipeline, segmenter):
        each.set_progress_bar_config(disable=True)
    maps = _label_maps(sample_shape(pipeline)[0], list(pipeline.unet.mask_labels.values()))
    masks = np.stack(list(maps.values()))
    images = generate_slices(pipeline, masks, num_inference_steps=num_inference_steps)
    segmented = segmenter(torch.from_numpy(images), generator=torch.Generator().manual_seed(0)).mask
    whole = overlap((segmented > 0).astype(np.uint8), (masks > 0).astype(np.uint8), [1], (1.0, 1.0)).dice[:, 0]
    dice = np.where(masks.any(axis=(1, 2)), whole, np.nan)  # undefined for an empty label map
    top = max(pipeline.unet.mask_labels)
    rows = {"label map": masks / top}
    rows |= {name: images[:, i] for i, name in enumerate(pipeline.modalities)}
    rows |= {"segmentation": segmented / top}
    figure = panel(rows, {"label map": list(maps)}, ranges=dict.fromkeys(rows, (0.0, 1.0)))
    return Section(
        key="labelled",
        title="Labelled images from label maps",
        text="Slices in four modalities generated from label maps, so that each image comes with its labels. The "
        "segmentation model, which was trained on phantoms, segments the generated slices.",
        figures={"Label maps, slices generated from them, and their segmentation": figure},
        table=[["label map", *maps], ["Dice of the segmentation", *("–" if d != d else f"{d:.2f}" for d in dice)]],
        metrics={"Dice of the segmentation": float(np.nanmean(dice))},
        seconds=time.perf_counter() - start,
    )


def _label_maps(size: int, classes: list[str]) -> dict[str, np.ndarray]:
    """A phantom's tumour in a slice (size, size), and changed versions of it, by title."""
    phantom = BrainPhantom(PHANTOM_SEED, lesion="tumour", difficulty=DIFFICULTY)
    subject = phantom.slice(float(np.median(phantom.lesion_heights())), size, ("t1",))
    if subject.lesions is None:
        raise ValueError(f"Phantom {PHANTOM_SEED} has no tumour; choose another seed.")
    tumour = label_ids(slices(subject.lesions).array[0, 0], classes)
    oedema = 1 + classes.index("oedema")
    grown = np.where((tumour == 0) & binary_dilation(tumour > 0, iterations=4), oedema, tumour)
    return {
        "tumour": tumour,
        "mirrored": tumour[:, ::-1].copy(),
        "shifted": np.roll(tumour, size // 12, axis=0),
        "more oedema": grown,
        "oedema only": np.where(tumour > 0, oedema, 0),
        "empty": np.zeros_like(tumour),
    }
