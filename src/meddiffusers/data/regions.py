"""Brain regions: FreeSurfer's label ids with their names in prompts, and pairs of left and right regions."""

from __future__ import annotations

import numpy as np

from meddiffusers.data.labels import to_label_ids

_SIDED = {  # left id, right id: name, with {side} for left or right
    (2, 41): "white matter of {side} cerebral hemisphere",
    (3, 42): "cortex of {side} cerebral hemisphere",
    (4, 43): "{side} lateral ventricle",
    (5, 44): "temporal horn of {side} lateral ventricle",
    (7, 46): "white matter of {side} hemisphere of cerebellum",
    (8, 47): "{side} cerebellar cortex",
    (10, 49): "{side} thalamus",
    (11, 50): "{side} caudate nucleus",
    (12, 51): "{side} putamen",
    (13, 52): "{side} globus pallidus",
    (17, 53): "{side} hippocampus",
    (18, 54): "{side} amygdala",
    (26, 58): "{side} nucleus accumbens",
    (28, 60): "{side} ventral diencephalon",
    (74, 73): "{side} thin cerebral white matter",
}
_MIDLINE = {
    14: "third ventricle",
    15: "fourth ventricle",
    16: "brainstem",
    24: "cerebrospinal fluid",
    72: "septum pellucidum",
}

REGIONS: dict[int, str] = {
    **{left: name.format(side="left") for (left, _), name in _SIDED.items()},
    **{right: name.format(side="right") for (_, right), name in _SIDED.items()},
    **_MIDLINE,
    48: "right thalamus",  # FreeSurfer 4's id; later versions write 49
}
MIRRORED: dict[int, int] = {
    **dict(_SIDED.keys()),
    **{right: left for left, right in _SIDED},
    48: 10,
    **{label: label for label in _MIDLINE},
}
VENTRICLES = (4, 5, 43, 44, 14, 15)
LATERAL_VENTRICLES = (4, 5, 43, 44)
CEREBROSPINAL_FLUID = 24


def mirrored_labels(labels: np.ndarray) -> np.ndarray:
    """Exchange left and right ids of a label map, as for a mirrored brain. The array is not flipped."""
    ids = to_label_ids(labels)
    table = np.arange(max(int(ids.max(initial=0)), max(MIRRORED)) + 1)
    table[list(MIRRORED)] = list(MIRRORED.values())
    return table[ids].astype(labels.dtype)


def region_volumes(labels: np.ndarray, voxel_volume: float) -> dict[int, float]:
    """Volume in mm³ of every label except 0, as voxels times `voxel_volume` in mm³; see `to_label_ids` for floats."""
    ids, counts = np.unique(to_label_ids(labels), return_counts=True)
    return {int(label): float(count) * voxel_volume for label, count in zip(ids, counts, strict=True) if label}
