"""Volumes of 8 × 12 × 8 voxels: a ball, larger and brighter the older the subject, with one darker half."""

from __future__ import annotations

import datasets
import numpy as np

from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE

SIZE = (8, 12, 8)


def volume_rows(count: int, seed: int = 0) -> datasets.Dataset:
    """Rows of `datasets.volumes` with the covariates age and sex."""
    rng = np.random.default_rng(seed)
    x, y, z = (np.arange(side) - (side - 1) / 2 for side in SIZE)
    distance = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    rows = []
    for index in range(count):
        age, sex = float(rng.uniform(20, 80)), "FM"[index % 2]
        ball = (distance < 2 + 2 * (age - 20) / 60) * (0.3 + 0.6 * (age - 20) / 60)
        ball[: SIZE[0] // 2] *= 0.5 if sex == "M" else 0.8
        rows.append(
            {
                "image": np.rint(INTENSITY_SCALE * ball[None]).astype(np.int16),
                "subject": f"{seed}-{index}",
                "age": age,
                "sex": sex,
            }
        )
    features = datasets.Features(
        image=datasets.Array4D((1, *SIZE), "int16"),
        subject=datasets.Value("string"),
        age=datasets.Value("float32"),
        sex=datasets.Value("string"),
    )
    return datasets.Dataset.from_list(rows, features=features)
