"""Images of low field: the same brain, but softer, flatter and noisier."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.brain.low_field import simulate_low_field
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.population import low_field_subjects


def contrast(image: np.ndarray, regions: np.ndarray) -> float:
    """Of white and grey matter, over their mean."""
    white, grey = (image[np.isin(regions, labels)].mean() for labels in ((2, 41), (3, 42)))
    return float(abs(white - grey) / (white + grey) * 2)


@pytest.mark.slow
def test_the_anatomy_stays_and_the_images_get_worse() -> None:
    subject = BrainPhantom(3).volume((2.0, 2.0, 8.0), ("t1", "t2"))
    worse = simulate_low_field(subject, seed=1)
    assert worse.regions is subject.regions and worse.record == subject.record
    regions = subject.regions.array[0]
    for name in ("t1", "t2"):
        before, after = (each.images[name].array[0].astype(float) for each in (subject, worse))
        np.testing.assert_array_equal(after == 0, before == 0)
        assert worse.images[name].modality == (name,) and np.allclose(
            worse.images[name].affine, subject.images[name].affine
        )
        assert contrast(after, regions) < 0.9 * contrast(before, regions)
        inside = ndimage.binary_erosion(np.isin(regions, (2, 41)), iterations=1)
        noise = [ndimage.laplace(image)[inside].std() / image[inside].mean() for image in (before, after)]
        assert noise[1] > 1.3 * noise[0]
        assert np.corrcoef(before[inside | (before > 0)], after[inside | (before > 0)])[0, 1] > 0.5


@pytest.mark.slow
def test_the_seed_decides() -> None:
    subject = BrainPhantom(3).volume((4.0, 4.0, 12.0), ("t1",))
    one, same, other = (simulate_low_field(subject, seed).images["t1"].array for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.slow
def test_subjects_alternate_in_modality() -> None:
    subjects = list(low_field_subjects(2, seed=5, modalities=("t1", "t2")))
    assert [list(subject.images) for subject in subjects] == [["t1"], ["t2"]]
