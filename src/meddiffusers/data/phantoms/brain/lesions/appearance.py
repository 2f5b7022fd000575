"""Appearance of lesions: the intensity of each part in each modality; white matter in T1 is 0.80."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LESION_LABELS = {
    "necrosis": 1,
    "oedema": 2,
    "enhancing": 4,
    "white_matter_lesion": 5,
    "cavity": 6,
}  # 1, 2, 4 as in BraTS
LESION_INTENSITIES: dict[str, dict[str, float]] = {
    "t1": {"necrosis": 0.33, "oedema": 0.54, "enhancing": 0.55, "white_matter_lesion": 0.66, "cavity": 0.20},
    "t1ce": {"necrosis": 0.35, "oedema": 0.56, "enhancing": 1.10, "white_matter_lesion": 0.68, "cavity": 0.22},
    "t2": {"necrosis": 0.90, "oedema": 0.76, "enhancing": 0.62, "white_matter_lesion": 0.66, "cavity": 0.93},
    "flair": {"necrosis": 0.44, "oedema": 0.86, "enhancing": 0.74, "white_matter_lesion": 0.80, "cavity": 0.14},
    "pd": {"necrosis": 0.84, "oedema": 0.82, "enhancing": 0.78, "white_matter_lesion": 0.80, "cavity": 0.85},
}
TEXTURES = {"necrosis": 0.05, "oedema": 0.03, "enhancing": 0.07, "white_matter_lesion": 0.03, "cavity": 0.01}
_SOLID = {"t1": 0.52, "t2": 0.74, "flair": 0.80, "pd": 0.80}  # solid, non-enhancing core
_WHITE = {"t1": 0.80, "t2": 0.36, "flair": 0.46, "pd": 0.62}  # healthy white matter
_ENHANCEMENT = 0.53  # intensity that contrast agent adds to T1


@dataclass(frozen=True)
class LesionAppearance:
    """Intensities and contrast of one lesion.

    Attributes:
        contrast: in (0, 1], weight of the partial-volume fractions when the image is mixed: at 0.3 the lesion differs
            from the healthy tissue around it by 0.3 of the difference of their intensities.
        values: intensity by modality and part.
    """

    contrast: float
    values: dict[str, dict[str, float]]

    def intensities(self, modality: str) -> dict[str, float]:
        """Intensity of each part in "t1", "t1ce", "t2", "flair" or "pd"; KeyError for any other modality."""
        return self.values[modality]


def random_appearance(rng: np.random.Generator, difficulty: float, solid: float = 0.0) -> LesionAppearance:
    """Sample an appearance around the table's values.

    Args:
        rng: source of randomness.
        difficulty: 0 to 1; harder lesions are fainter, and closer to white matter in some modalities.
        solid: 0 for fluid necrosis, 1 for a core of non-enhancing tumour, which is hyperintense on FLAIR as well.
    """
    contrast = 1 - difficulty * rng.uniform(0.25, 0.6)
    values = {}
    for modality in ("t1", "t2", "flair", "pd"):
        visible = 1 - 0.75 * difficulty * rng.random() ** 2
        row = {part: value * (1 + 0.05 * rng.standard_normal()) for part, value in LESION_INTENSITIES[modality].items()}
        row["necrosis"] += solid * (_SOLID[modality] - LESION_INTENSITIES[modality]["necrosis"])
        values[modality] = {
            part: _WHITE[modality] + visible * (value - _WHITE[modality]) for part, value in row.items()
        }
    enhancement = rng.uniform(0.9, 1.2) * (1 - 0.75 * difficulty * rng.random())
    values["t1ce"] = {
        part: value + 0.02 for part, value in values["t1"].items()
    }  # identical except where contrast agent accumulates
    values["t1ce"]["enhancing"] += enhancement * _ENHANCEMENT
    return LesionAppearance(float(contrast), values)
