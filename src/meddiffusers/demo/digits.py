"""Real digits through an attribute-regularised VAE: reconstruct, interpolate, sample, traverse, edit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.digits import digits
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel

CHECKPOINT = "ar-vae-mnist"
THICKNESS, SLANT = (2.4, 2.8, 3.2), (-0.2, 0.1, 0.4)  # px, rad
COUNT = 10  # digits shown, one of each class
SUBJECT = 3  # the one that is traversed and whose edits are shown


def digits_section(checkpoints: Path) -> Section:
    """The section; the pipeline comes from `checkpoints`, the digits from the held-out split."""
    start = time.perf_counter()
    pipe: Any = DiffusionPipeline.from_pretrained(checkpoints / CHECKPOINT)
    test = digits()["test"]
    images = test[:: len(test) // COUNT]["image"]
    edited, table, errors = _edits(pipe, images)
    tour = "Held-out digits, their reconstructions, samples, and two ways from the first digit to the last"
    swept = "One digit with each attribute swept over its calibrated range; above each image what it measures"
    slants = ", ".join(f"{slant:g}" for slant in SLANT)
    asked = (
        f"The digit edited to three thicknesses, each with a slant of {slants} rad; above each image what it measures"
    )
    return Section(
        key="ar_vae_digits",
        title="AR-VAE: images edited by measured attributes",
        text="Real MNIST digits that the model has not seen. Six of its sixteen latent dimensions follow measured "
        "attributes, so a digit can be asked for in pixels and radians; the decoded image is then measured anew.",
        figures={tour: _tour(pipe, images), swept: _traversals(pipe, images[SUBJECT]), asked: edited},
        table=table,
        metrics={f"mean_absolute_error_{name}": error for name, error in errors.items()},
        seconds=time.perf_counter() - start,
    )


def _tour(pipe: Any, images: list[PIL.Image.Image]) -> PIL.Image.Image:
    ends = {"a": images[0], "b": images[-1], "steps": COUNT, "output_type": "np"}
    rows = {
        "digit": [np.asarray(image) for image in images],
        "reconstruction": pipe.reconstruct(images, output_type="np").images,
        "sample": pipe.sample(COUNT, torch.Generator().manual_seed(0), output_type="np").images,
        "linear": pipe.interpolate(**ends).images,
        "spherical": pipe.interpolate(**ends, method="spherical").images,
    }
    return panel(rows)


def _traversals(pipe: Any, image: PIL.Image.Image) -> PIL.Image.Image:
    rows, titles = {}, {}
    for name in pipe.attributes:
        rows[name] = pipe.traverse(image, name, steps=COUNT, output_type="np").images
        titles[name] = [f"{value:.3g} {DIGIT_ATTRIBUTES[name]}" for value in _measured(rows[name], name)[:, 0]]
    return panel(rows, titles)


def _edits(pipe: Any, images: list[PIL.Image.Image]) -> tuple[PIL.Image.Image, list[list[str]], dict[str, float]]:
    """Every digit at every asked thickness and slant: a panel of one digit, a table of means, mean absolute errors."""
    rows: dict[str, list[np.ndarray]] = {}
    titles: dict[str, list[str]] = {}
    table = [["asked thickness [px]", "asked slant [rad]", "measured [px]", "measured [rad]"]]
    gaps = []
    for thickness in THICKNESS:
        row = f"thickness {thickness:.1f} px"
        rows[row], titles[row] = [], []
        for slant in SLANT:
            output = pipe.edit(images, {"thickness": thickness, "slant": slant}, output_type="np").images
            values = _measured(output, "thickness", "slant")
            gaps.append(np.abs(values - [thickness, slant]))
            rows[row].append(output[SUBJECT])
            titles[row].append(f"{values[SUBJECT, 0]:.2f} px, {values[SUBJECT, 1]:.2f} rad")
            table.append([f"{value:.2f}" for value in (thickness, slant, *values.mean(axis=0))])
    errors = np.concatenate(gaps).mean(axis=0)
    return panel(rows, titles, tile=1.2), table, {"thickness_px": float(errors[0]), "slant_rad": float(errors[1])}


def _measured(images: np.ndarray, *names: str) -> np.ndarray:
    """The named attributes (N, len(names)) of decoded digits (N, H, W, 1)."""
    return measure_digits(images[..., 0])[:, [list(DIGIT_ATTRIBUTES).index(name) for name in names]]
