"""Render the noise-free image of a modality from anatomy and lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.brain.anatomy import PARTS, TISSUE, Anatomy
from meddiffusers.data.phantoms.brain.contrasts import CAP, CHOROID_PLEXUS, DETAIL, VESSEL, head_intensity
from meddiffusers.data.phantoms.brain.lesions.appearance import TEXTURES, LesionAppearance
from meddiffusers.data.phantoms.brain.scanner import Acquisition
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

GRAIN = 0.014  # standard deviation of the texture of healthy tissue
_WHITE = PARTS.index("cerebral white matter")
_CAP_DEPTH = 2.2  # mm, decay length of the periventricular rim


@dataclass(frozen=True)
class Texture:
    """Texture of one subject.

    Attributes:
        grain: two smooth fields of fine detail.
        vessels: field whose zero crossings in the sulci are veins.
        cap: strength of the periventricular rim, 0 to 1.2.
    """

    grain: SmoothField
    vessels: SmoothField
    cap: float


@dataclass(frozen=True)
class Scene:
    """What is rendered on a grid (X, Y, Z) besides the N points of the anatomy.

    Attributes:
        grain: (2, N) texture.
        vessel: (N,) fraction of veins.
        cap: (N,) strength of the periventricular rim.
        lesions: fractions (X, Y, Z) by part.
        appearance: of the lesions, None for a healthy brain.
        head: (7, X, Y, Z) fractions of extracerebral tissue, None for a skull-stripped image.
    """

    grain: np.ndarray
    vessel: np.ndarray
    cap: np.ndarray
    lesions: Mapping[str, np.ndarray]
    appearance: LesionAppearance | None
    head: np.ndarray | None


def scene(
    anatomy: Anatomy,
    grid: Grid,
    texture: Texture,
    lesions: Mapping[str, np.ndarray],
    appearance: LesionAppearance | None,
    head: np.ndarray | None,
) -> Scene:
    """Evaluate texture, vessels and lesions of one subject on one grid."""
    inside, fluid = anatomy.inside, anatomy.fractions[0]
    # Veins lie where a smooth field crosses zero within the fluid of the sulci.
    vein = np.clip(1 - np.abs(texture.vessels(grid)[0][inside]) / 0.10, 0, 1) * np.clip(2 * fluid - 0.4, 0, 1)
    rim = np.exp(-np.maximum(anatomy.wall, 0) / _CAP_DEPTH) * anatomy.fractions[_WHITE]
    grain = texture.grain(grid)[:, inside]
    return Scene(grain, vein, texture.cap * rim * np.clip(1 + 0.5 * grain[0], 0, 2), lesions, appearance, head)


def ideal_image(anatomy: Anatomy, scene: Scene, modality: str, acquisition: Acquisition) -> np.ndarray:
    """Noise-free image (X, Y, Z) float32, 0 in air."""
    fractions = anatomy.fractions
    values = acquisition.intensities @ fractions
    values += scene.vessel * (np.float32(VESSEL[modality]) - acquisition.intensities[0])
    lateral = acquisition.intensities[PARTS.index("lateral ventricle")]
    values += anatomy.choroid * (np.float32(CHOROID_PLEXUS[modality]) - lateral)
    values += scene.cap * np.float32(CAP[modality])
    tissue = fractions[list(TISSUE)].sum(axis=0)
    grain = acquisition.texture.astype(np.float32) @ scene.grain
    values += (np.float32(DETAIL[modality]) * anatomy.detail + np.float32(GRAIN) * grain) * tissue
    image = anatomy.to_grid(values)
    if scene.head is not None:
        image += np.tensordot(head_intensity(modality), scene.head, 1)
    if scene.appearance is not None:
        _add_lesions(image, anatomy, scene, scene.appearance, modality)
    return image


def _add_lesions(
    image: np.ndarray, anatomy: Anatomy, scene: Scene, appearance: LesionAppearance, modality: str
) -> None:
    """Mix the lesion's parts into the image in place, weighted by fraction and contrast, with their own texture."""
    values = appearance.intensities(modality)
    coarse = anatomy.to_grid(scene.grain[0])
    for name, fraction in scene.lesions.items():
        touched = fraction > 0
        own = np.float32(values[name]) + np.float32(TEXTURES[name]) * coarse[touched]
        image[touched] += np.float32(appearance.contrast) * fraction[touched] * (own - image[touched])
