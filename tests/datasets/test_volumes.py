"""Phantom volumes: independent of the number of processes; covariates agree with the anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.datasets.volumes import phantom_volumes

SPACING = 4.0


@pytest.mark.parametrize("num_proc", [None, 2])
def test_rows_are_brains_with_their_covariates(num_proc: int | None) -> None:
    rows = phantom_volumes(3, seed=5, spacing=SPACING, modalities=("t1", "t2"), num_proc=num_proc).with_format("numpy")
    assert list(rows["subject"]) == ["5-0", "5-1", "5-2"]
    for row in rows:
        image, regions = row["image"], row["regions"]
        assert image.shape == (2, 40, 48, 40) and regions.shape == (40, 48, 40)
        assert image.min() == 0 and image.max() == INTENSITY_SCALE
        ml = SPACING**3 / 1000
        tissue = ((regions > 0) & ~np.isin(regions, (24, 14, 15, *LATERAL_VENTRICLES))).sum() * ml
        assert tissue == pytest.approx(row["brain_volume_ml"], rel=0.08)
        ventricles = np.isin(regions, LATERAL_VENTRICLES).sum() * ml
        assert ventricles == pytest.approx(row["ventricular_volume_ml"], rel=0.4, abs=6)
        assert 18 <= row["age"] <= 100 and row["sex"] in ("F", "M")
    one, other = rows[0]["image"], rows[1]["image"]
    assert not np.array_equal(one, other)


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one brain"):
        phantom_volumes(0)
