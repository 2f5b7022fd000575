"""Detection metrics against scikit-learn and a search over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from meddiffusers.evaluation.metrics.detection import auroc, average_precision, best_dice, bin_edges, detection_counts


def maps(shift: float, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(8, 40, 40) values, higher where positive; few different ones if levels are given."""
    rng = np.random.default_rng(0)
    positive = rng.random((8, 40, 40)) < 0.07
    values = rng.normal(size=positive.shape) + shift * positive
    return (values if levels is None else np.round(values * levels) / levels), positive


@pytest.mark.parametrize(("shift", "levels"), [(1.5, None), (3.0, None), (0.0, None), (1.5, 1), (2.0, 4)])
def test_figures_are_those_of_pixels(shift: float, levels: int | None) -> None:
    values, positive = maps(shift, levels)
    edges = bin_edges(values)
    counts = detection_counts(values, positive, edges)
    assert counts.sum() == positive.size and counts[1].sum() == positive.sum()
    exact = 1e-9 if levels else 2e-4  # of few values each has a bin of its own
    flat = positive.ravel(), values.ravel()
    assert auroc(counts) == pytest.approx(roc_auc_score(*flat), abs=exact)
    assert average_precision(counts) == pytest.approx(average_precision_score(*flat), abs=5 * exact)
    found, place = best_dice(counts)
    dices = [_dice(values >= threshold, positive) for threshold in np.unique(values)]
    assert found == pytest.approx(max(dices), abs=5 * exact)
    threshold = edges[place - 1] if place else -np.inf
    assert _dice(values >= threshold, positive) == pytest.approx(found)


def _dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


def test_counts_add_up_and_stack() -> None:
    values, positive = maps(1.0)
    edges = bin_edges(values)
    each = np.stack([detection_counts(*one, edges) for one in zip(values, positive, strict=True)])
    whole = detection_counts(values, positive, edges)
    assert np.array_equal(each.sum(axis=0), whole)
    assert auroc(each).shape == average_precision(each).shape == best_dice(each)[0].shape == (8,)
    assert auroc(each)[3] == auroc(each[3])


def test_what_cannot_be_measured() -> None:
    values, positive = maps(1.0)
    edges = bin_edges(values)
    assert np.isnan(auroc(detection_counts(values, np.zeros_like(positive), edges)))
    assert np.isnan(average_precision(detection_counts(values, np.zeros_like(positive), edges)))
    with pytest.raises(ValueError, match="expected at least one, all finite"):
        bin_edges(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"values of shape \(8, 40, 40\) and a reference of shape \(8, 40\)"):
        detection_counts(values, positive[..., 0], edges)
