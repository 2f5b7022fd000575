"""From anatomy and lesions to the ideal image of a modality, before the scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.brain.anatomy import PARTS, TISSUE, Anatomy
from meddiffusers.data.phantoms.brain.contrasts import CAP, CHOROID_PLEXUS, DETAIL, VESSEL, head_intensity
from meddiffusers.data.phantoms.brain.lesion_appearance import TEXTURES, LesionAppearance
from meddiffusers.data.phantoms.brain.scanner import Acquisition
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField

GRAIN = 0.014  # of the texture of healthy tissue
_WHITE = PARTS.index("cerebral white matter")
_CAP_DEPTH = 2.2  # mm over which the ventricles' rim fades


@dataclass(frozen=True)
class Texture:
    """One person's smooth fields: two of fine grain, one of vessels; cap: how bright the ventricles' rim is, 0 to 1."""

    grain: SmoothField
    vessels: SmoothField
    cap: float


@dataclass(frozen=True)
class Scene:
    """What the scanner is to see on a grid (X, Y, Z), besides the anatomy.

    grain: (2, N) at the points of the anatomy; vessel: (N,) fraction; cap: (N,); lesions: fractions (X, Y, Z) by part;
    head: (7, X, Y, Z) fractions of the head around the brain, if it is there.
    """

    grain: np.ndarray
    vessel: np.ndarray
    cap: np.ndarray
    lesions: Mapping[str, np.ndarray]
    look: LesionAppearance | None
    head: np.ndarray | None


def scene(
    anatomy: Anatomy,
    grid: Grid,
    texture: Texture,
    lesions: Mapping[str, np.ndarray],
    look: LesionAppearance | None,
    head: np.ndarray | None,
) -> Scene:
    """The scene of one person on one grid."""
    inside, fluid = anatomy.inside, anatomy.fractions[0]
    # Veins run where a field crosses zero within the fluid of the sulci.
    vein = np.clip(1 - np.abs(texture.vessels(grid)[0][inside]) / 0.10, 0, 1) * np.clip(2 * fluid - 0.4, 0, 1)
    rim = np.exp(-np.maximum(anatomy.wall, 0) / _CAP_DEPTH) * anatomy.fractions[_WHITE]
    grain = texture.grain(grid)[:, inside]
    return Scene(grain, vein, texture.cap * rim * np.clip(1 + 0.5 * grain[0], 0, 2), lesions, look, head)


def ideal_image(anatomy: Anatomy, scene: Scene, modality: str, acquisition: Acquisition) -> np.ndarray:
    """(X, Y, Z) float32 without noise, 0 in the air."""
    fractions = anatomy.fractions
    values = acquisition.intensities @ fractions
    values += scene.vessel * (np.float32(VESSEL[modality]) - acquisition.intensities[0])
    lateral = acquisition.intensities[PARTS.index("lateral ventricle")]
    values += anatomy.choroid * (np.float32(CHOROID_PLEXUS[modality]) - lateral)
    values += scene.cap * np.float32(CAP[modality])
    tissue = fractions[list(TISSUE)].sum(axis=0)
    grain = acquisition.texture.astype(np.float32) @ scene.grain
    values += (np.float32(DETAIL[modality]) * anatomy.detail + np.float32(GRAIN) * grain) * tissue
    image = anatomy.spread(values)
    if scene.head is not None:
        image += np.tensordot(head_intensity(modality), scene.head, 1)
    if scene.look is not None:
        _add_lesions(image, anatomy, scene, scene.look, modality)
    return image


def _add_lesions(image: np.ndarray, anatomy: Anatomy, scene: Scene, look: LesionAppearance, modality: str) -> None:
    """Mix the lesion's parts into the image, by their fraction and contrast, with a grain of their own."""
    values = look.intensities(modality)
    coarse = anatomy.spread(scene.grain[0])
    for name, fraction in scene.lesions.items():
        touched = fraction > 0
        own = np.float32(values[name]) + np.float32(TEXTURES[name]) * coarse[touched]
        image[touched] += np.float32(look.contrast) * fraction[touched] * (own - image[touched])
