"""The Fréchet distance against its closed form, MONAI's, and where there are fewer samples than features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.fid import get_fid_score

from meddiffusers.evaluation.metrics.frechet import frechet_distance


def test_shifted_and_scaled_samples_have_the_distance_of_the_formula() -> None:
    x = np.random.default_rng(0).normal(size=(400, 5))
    shift = np.array([1.0, 0, 2, 0, 0])
    assert frechet_distance(x, x + shift) == pytest.approx(5)
    assert frechet_distance(x, 3 * x) == pytest.approx(
        np.square(2 * x.mean(axis=0)).sum() + 4 * x.var(axis=0, ddof=1).sum()
    )
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_it_is_monais_where_that_is_stable() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(200, 6)) + 0.5
    expected = get_fid_score(torch.from_numpy(one), torch.from_numpy(other)).item()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_fewer_samples_than_features_do_no_harm() -> None:
    one, other = np.random.default_rng(2).normal(size=(2, 8, 40))
    padded = frechet_distance(np.pad(one, ((0, 0), (0, 60))), np.pad(other, ((0, 0), (0, 60))))
    assert frechet_distance(one, other) == pytest.approx(padded) and padded > 0


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_other_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        frechet_distance(*(np.zeros(shape) for shape in shapes))
