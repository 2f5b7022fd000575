"""Intensity of each structure in each modality; white matter in T1 is 0.80.

Rounded values of typical clinical spin-echo and gradient-echo contrasts at 1.5–3 T. Contrast-enhanced T1 differs from
T1 only in vessels, choroid plexus and lesions.
"""

from __future__ import annotations

import numpy as np

from meddiffusers.data.phantoms.brain.anatomy import PARTS

MODALITIES = ("t1", "t1ce", "t2", "flair", "pd")
_TABLE = {  # part: t1, t2, flair, pd
    "fluid": (0.20, 0.92, 0.12, 0.85),
    "cortex": (0.59, 0.56, 0.60, 0.78),
    "cerebral white matter": (0.80, 0.36, 0.46, 0.62),
    "cerebellar cortex": (0.60, 0.55, 0.58, 0.77),
    "cerebellar white matter": (0.77, 0.38, 0.47, 0.63),
    "brainstem": (0.73, 0.42, 0.50, 0.65),
    "thalamus": (0.68, 0.46, 0.54, 0.70),
    "caudate": (0.60, 0.51, 0.59, 0.76),
    "putamen": (0.63, 0.46, 0.54, 0.73),
    "pallidum": (0.71, 0.33, 0.42, 0.62),
    "hippocampus": (0.55, 0.60, 0.67, 0.80),
    "amygdala": (0.55, 0.58, 0.66, 0.80),
    "accumbens": (0.57, 0.54, 0.60, 0.78),
    "ventral diencephalon": (0.72, 0.41, 0.48, 0.64),
    "lateral ventricle": (0.16, 1.00, 0.10, 0.88),
    "temporal horn": (0.18, 0.97, 0.11, 0.87),
    "third ventricle": (0.16, 1.00, 0.11, 0.88),
    "fourth ventricle": (0.17, 0.97, 0.12, 0.87),
}
_COLUMNS = {"t1": 0, "t1ce": 0, "t2": 1, "flair": 2, "pd": 3}
INTENSITIES = {
    name: np.array([_TABLE[part][column] for part in PARTS], np.float32) for name, column in _COLUMNS.items()
}

# Weight, in each modality, of the template's T1 detail (its T1 minus the mean of its tissues).
DETAIL = {"t1": 0.8, "t1ce": 0.8, "t2": -0.55, "flair": -0.2, "pd": -0.3}
CHOROID_PLEXUS = {"t1": 0.45, "t1ce": 1.0, "t2": 0.75, "flair": 0.55, "pd": 0.75}
VESSEL = {"t1": 0.30, "t1ce": 1.25, "t2": 0.15, "flair": 0.20, "pd": 0.35}  # veins: flow voids unless enhanced
CAP = {"t1": -0.08, "t1ce": -0.08, "t2": 0.14, "flair": 0.22, "pd": 0.10}  # periventricular rim in older adults
HEAD = {  # extracerebral tissue, innermost first, then the face; t1, t2, flair, pd
    "meninges": (0.25, 0.80, 0.20, 0.70),
    "bone": (0.10, 0.08, 0.08, 0.12),
    "marrow": (0.62, 0.35, 0.35, 0.50),
    "scalp": (0.95, 0.60, 0.62, 0.85),
    "muscle": (0.42, 0.22, 0.28, 0.48),
    "fat": (1.00, 0.62, 0.65, 0.88),
    "vitreous": (0.20, 1.00, 0.14, 0.88),
}


def head_intensity(modality: str) -> np.ndarray:
    """(7,) intensities of the extracerebral tissues, in the order of `HEAD`."""
    return np.array([row[_COLUMNS[modality]] for row in HEAD.values()], np.float32)
