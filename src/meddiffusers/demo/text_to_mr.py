"""Slices of a text: one person in three contrasts, ventricles from small to large, another scanner by an adapter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddiffusers.data.prompts import SliceFacts, write_prompt
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.datasets.captioned_slices import facts_of, phantom_captioned_slices
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.text_to_mr.prompt_adherence import predict_attributes
from meddiffusers.hub.load import load
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

REPOSITORY, READER, ADAPTER = "text-to-mr-brain", "attribute-predictor-brain", "lora-lowfield"
PERSON, HEIGHT = 9001, 12.0  # seed of a phantom that no training has seen; mm, at which its ventricles are cut
MODALITIES = {"t1": "T1-weighted", "t2": "T2-weighted", "flair": "FLAIR"}
VENTRICLES = (200, 500, 1000, 1500, 2000, 3000)  # mm³ in the slice, both together
BODIES = (4, 43)  # ids of the lateral ventricles without their temporal horns, which lie lower
NOISES = 6


def text_to_mr_section(checkpoints: Path) -> Section:
    """The section; model, reader and adapter come from the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    reader = SliceAttributePredictor.from_pretrained(checkpoints / READER).eval()
    person = _person(pipeline)
    contrasts = {
        title: _drawn(pipeline, [replace(person, modality=name)] * NOISES, range(NOISES))
        for name, title in MODALITIES.items()
    }
    swept = [_with_ventricles(person, mm3) for mm3 in VENTRICLES]
    images = _drawn(pipeline, swept, [0] * len(swept))
    labels = predict_attributes(reader, images).labels
    read = np.isin(labels, LATERAL_VENTRICLES).sum(axis=(1, 2)) * np.prod(person.voxel or ())
    pipeline.load_lora_weights(checkpoints / ADAPTER)
    adapted = _drawn(pipeline, [person] * NOISES, range(NOISES))
    right = [
        modality == name
        for name, title in MODALITIES.items()
        for modality in predict_attributes(reader, contrasts[title]).modalities
    ]
    asked = [f"{mm3} mm³" for mm3 in VENTRICLES]
    return Section(
        key="text-to-mr",
        title="Slices of a text",
        text=f"“{write_prompt(person)}” Images below each other begin with the same noise. An independent network, "
        "which has learnt to read phantoms, measures the ventricles.",
        figures={
            "One prompt, but for the contrast that it asks for": _panel(contrasts),
            "The same prompt with lateral ventricles of another volume": panel(
                {"drawn": images}, {"drawn": asked}, ranges={"drawn": (0.0, 1.0)}
            ),
            "Above the model, below with an adapter that has learnt nineteen scans of a simulated low-field scanner": (
                _panel({"model": contrasts[MODALITIES[person.modality]], "with adapter": adapted})
            ),
        },
        table=[
            ["lateral ventricles", *asked],
            ["read, mm³", *(f"{volume:.0f}" for volume in read)],
        ],
        metrics={
            "r of asked and read ventricles": float(np.corrcoef(VENTRICLES, read)[0, 1]),
            "contrasts read right": float(np.mean(right)),
        },
        seconds=time.perf_counter() - start,
    )


def _person(pipeline: Any) -> SliceFacts:
    """Of a phantom's slice, T1-weighted."""
    size = pipeline.vae_scale_factor * pipeline.unet.config["sample_size"]
    rows = phantom_captioned_slices(1, PERSON, size=size, modalities=["t1"], heights=(HEIGHT, HEIGHT))
    return facts_of(rows[0])


def _with_ventricles(facts: SliceFacts, mm3: int) -> SliceFacts:
    """Half of the volume on each side, and all else as it is."""
    return replace(facts, volumes={**facts.volumes, **dict.fromkeys(BODIES, mm3 // 2)})


def _drawn(pipeline: Any, asked: Sequence[SliceFacts], seeds: Sequence[int]) -> np.ndarray:
    """Images (N, H, W) in [0, 1], each of a noise with a seed of its own."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    texts = [write_prompt(facts) for facts in asked]
    return pipeline(texts, generator=generators, output_type="np").images[..., 0]


def _panel(rows: dict[str, np.ndarray]) -> Any:
    return panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))
