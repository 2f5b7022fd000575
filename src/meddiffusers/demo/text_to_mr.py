"""MR slices from text prompts: three contrasts, ventricles of several volumes, and a LoRA adapter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
import torch

from meddiffusers.data.prompts import SliceFacts, write_prompt
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.datasets.captioned_slices import facts_of, phantom_captioned_slices
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.text_to_mr.prompt_adherence import predict_attributes
from meddiffusers.hub.load import load
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline

REPOSITORY, PREDICTOR, ADAPTER = "text-to-mr-brain", "attribute-predictor-brain", "lora-lowfield"
SEED, HEIGHT = 9001, 12.0  # of a phantom outside the training data; mm, a level at which its ventricles are visible
MODALITIES = {"t1": "T1-weighted", "t2": "T2-weighted", "flair": "FLAIR"}
VENTRICLES = (200, 500, 1000, 1500, 2000, 2300)  # mm³ in the slice, both sides together, as in training
VENTRICLE_IDS = (4, 43)  # lateral ventricles without their temporal horns, which lie below the slice
SAMPLES = 4


def text_to_mr_section(checkpoints: Path, num_inference_steps: int = 20) -> Section:
    """Build the section from the model, the attribute predictor and the adapter in the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline = cast(TextToMRPipeline, load(checkpoints / REPOSITORY))
    pipeline.set_progress_bar_config(disable=True)
    predictor = SliceAttributePredictor.from_pretrained(checkpoints / PREDICTOR).eval()

    def generate(facts: Sequence[SliceFacts], seeds: Sequence[int]) -> np.ndarray:
        """Images (B, H, W) in [0, 1], each from the noise of its own seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        prompts = [write_prompt(each) for each in facts]
        settings = {"num_inference_steps": num_inference_steps, "output_type": "np"}
        return pipeline(prompts, generator=generators, **settings).images[..., 0]

    facts = _facts(pipeline)
    contrasts = {
        title: generate([replace(facts, modality=name)] * SAMPLES, range(SAMPLES)) for name, title in MODALITIES.items()
    }
    swept = generate([_with_ventricles(facts, mm3) for mm3 in VENTRICLES], [0] * len(VENTRICLES))
    labels = predict_attributes(predictor, swept).labels
    measured = np.isin(labels, LATERAL_VENTRICLES).sum(axis=(1, 2)) * np.prod(facts.voxel or ())
    correct = [
        modality == name
        for name, title in MODALITIES.items()
        for modality in predict_attributes(predictor, contrasts[title]).modalities
    ]
    pipeline.load_lora_weights(checkpoints / ADAPTER)
    adapted = generate([facts] * SAMPLES, range(SAMPLES))
    targets = [f"{mm3} mm³" for mm3 in VENTRICLES]
    return Section(
        key="text-to-mr",
        title="MR slices from text prompts",
        text=f"“{write_prompt(facts)}” Images in the same column start from the same noise. An independent predictor, "
        "trained on phantoms, measures the ventricles.",
        figures={
            "The prompt above with three contrasts": _panel(contrasts),
            "The same prompt and noise with six volumes of the lateral ventricles": panel(
                {"generated": swept}, {"generated": targets}, ranges={"generated": (0.0, 1.0)}
            ),
            "Top: the model. Bottom: the same with a LoRA adapter, trained on nineteen scans of a simulated low-field "
            "scanner": _panel({"model": contrasts[MODALITIES[facts.modality]], "with adapter": adapted}),
        },
        table=[
            ["target volume of the lateral ventricles", *targets],
            ["measured, mm³", *(f"{volume:.0f}" for volume in measured)],
        ],
        metrics={
            "correlation of target and measured ventricular volume": float(np.corrcoef(VENTRICLES, measured)[0, 1]),
            "contrasts predicted correctly": float(np.mean(correct)),
        },
        seconds=time.perf_counter() - start,
    )


def _facts(pipeline: TextToMRPipeline) -> SliceFacts:
    """Facts of a T1-weighted phantom slice."""
    size = pipeline.vae_scale_factor * pipeline.unet.config["sample_size"]
    rows = phantom_captioned_slices(1, SEED, size=size, modalities=["t1"], heights=(HEIGHT, HEIGHT))
    return facts_of(rows[0])


def _with_ventricles(facts: SliceFacts, mm3: int) -> SliceFacts:
    """The facts with another ventricular volume, half of it on each side."""
    return replace(facts, volumes={**facts.volumes, **dict.fromkeys(VENTRICLE_IDS, mm3 // 2)})


def _panel(rows: dict[str, np.ndarray]) -> PIL.Image.Image:
    return panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))
