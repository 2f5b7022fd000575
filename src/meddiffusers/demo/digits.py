"""Attribute-regularised VAE on MNIST digits: reconstruction, interpolation, sampling, traversal, editing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
import torch

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.digits import digits
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.hub.load import load
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

REPOSITORY = "ar-vae-mnist"
THICKNESS, SLANT = (2.4, 2.8, 3.2), (-0.2, 0.1, 0.4)  # px, rad
COLUMNS = 10  # digits, one of each class
EXAMPLE = 3  # index of the digit whose traversals and edits are shown


def digits_section(checkpoints: Path) -> Section:
    """Build the section from the repository in the folder `checkpoints` and digits of the test split."""
    start = time.perf_counter()
    pipeline = cast(AttributeVAEPipeline, load(checkpoints / REPOSITORY))
    test = digits()["test"]
    images = test[:: len(test) // COLUMNS]["image"]
    edited, table, errors = _edits(pipeline, images)
    overview = (
        "Test digits, their reconstructions, random samples, and linear and spherical interpolation from the first "
        "digit to the last"
    )
    traversals = (
        "One digit, with each attribute changed over its calibrated range. The titles give the attribute as measured "
        "in the generated image."
    )
    slants = ", ".join(f"{slant:g}" for slant in SLANT)
    edits = (
        f"The same digit edited to three thicknesses, each with a slant of {slants} rad. The titles give thickness and "
        "slant as measured in the generated image."
    )
    return Section(
        key="ar_vae_digits",
        title="Editing images by measured attributes",
        text="MNIST digits of the test split. In this attribute-regularised VAE, six of the sixteen latent dimensions "
        "encode measured attributes, so that edits are given in pixels and radians. The attributes of each edited "
        "image are measured again.",
        figures={
            overview: _overview(pipeline, images),
            traversals: _traversals(pipeline, images[EXAMPLE]),
            edits: edited,
        },
        table=table,
        metrics={f"mean_absolute_error_{name}": error for name, error in errors.items()},
        seconds=time.perf_counter() - start,
    )


def _overview(pipeline: AttributeVAEPipeline, images: list[PIL.Image.Image]) -> PIL.Image.Image:
    ends = {"a": images[0], "b": images[-1], "steps": COLUMNS, "output_type": "np"}
    rows = {
        "digit": [np.asarray(image) for image in images],
        "reconstruction": pipeline.reconstruct(images, output_type="np").images,
        "sample": pipeline.sample(COLUMNS, torch.Generator().manual_seed(0), output_type="np").images,
        "linear": pipeline.interpolate(**ends).images,
        "spherical": pipeline.interpolate(**ends, method="spherical").images,
    }
    return panel(rows)


def _traversals(pipeline: AttributeVAEPipeline, image: PIL.Image.Image) -> PIL.Image.Image:
    rows, titles = {}, {}
    for name in pipeline.attributes:
        rows[name] = pipeline.traverse(image, name, steps=COLUMNS, output_type="np").images
        titles[name] = [f"{value:.3g} {DIGIT_ATTRIBUTES[name]}" for value in _measured(rows[name], name)[:, 0]]
    return panel(rows, titles)


def _edits(
    pipeline: AttributeVAEPipeline, images: list[PIL.Image.Image]
) -> tuple[PIL.Image.Image, list[list[str]], dict[str, float]]:
    """Edit every digit to every thickness and slant: a panel of one digit, a table of means, mean absolute errors."""
    rows: dict[str, list[np.ndarray]] = {}
    titles: dict[str, list[str]] = {}
    table = [["target thickness [px]", "target slant [rad]", "measured [px]", "measured [rad]"]]
    errors = []
    for thickness in THICKNESS:
        row = f"thickness {thickness:.1f} px"
        rows[row], titles[row] = [], []
        for slant in SLANT:
            output = pipeline.edit(images, {"thickness": thickness, "slant": slant}, output_type="np").images
            values = _measured(output, "thickness", "slant")
            errors.append(np.abs(values - [thickness, slant]))
            rows[row].append(output[EXAMPLE])
            titles[row].append(f"{values[EXAMPLE, 0]:.2f} px, {values[EXAMPLE, 1]:.2f} rad")
            table.append([f"{value:.2f}" for value in (thickness, slant, *values.mean(axis=0))])
    mean = np.concatenate(errors).mean(axis=0)
    return panel(rows, titles, tile=1.2), table, {"thickness_px": float(mean[0]), "slant_rad": float(mean[1])}


def _measured(images: np.ndarray, *names: str) -> np.ndarray:
    """The named attributes (B, len(names)) of digits (B, H, W, 1)."""
    return measure_digits(images[..., 0])[:, [list(DIGIT_ATTRIBUTES).index(name) for name in names]]
