from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma

from meddiffusers.evaluation.metrics.disentanglement import disentanglement, entropy, modularity, mutual_information

N = 600
NAMES = ["area", "slant", "width"]
MEANS = ("interpretability", "scc", "modularity", "mig", "sap")


def uniform(columns: int, seed: int = 0) -> np.ndarray:
    """Independent columns, each a permutation of one even grid on (−1, 1), so that moments are those of U(−1, 1)."""
    rng = np.random.default_rng(seed)
    grid = (np.arange(N) + 0.5) / N * 2 - 1
    return np.stack([rng.permutation(grid) for _ in range(columns)], axis=1)


def test_latents_that_are_the_attributes() -> None:
    attributes = uniform(3)
    scores = disentanglement(attributes, attributes, NAMES)
    assert scores["interpretability"] == pytest.approx(1, abs=1e-12)
    assert scores["scc"] == pytest.approx(1, abs=1e-12)
    assert scores["sap"] == pytest.approx(1, abs=0.02)  # the second correlation is that of 600 independent pairs
    assert scores["mig"] == pytest.approx(1, abs=0.02)
    assert scores["modularity"] == scores["modularity_regularised"] == pytest.approx(1, abs=1e-3)
    assert scores["per_attribute"]["slant"]["scc"] == pytest.approx(1, abs=1e-12)


def test_entropy_is_that_of_the_estimator() -> None:
    """ψ(N) + ψ(k) − ⟨ψ(n_x + 1) + ψ(n_y + 1)⟩ for k = 3 and a column with its copy.

    The third neighbour in the plane lies on the edge of one margin (n = 2) and just inside the other (n = 3), since
    the estimator adds a trace of noise to each: ψ(N) − ψ(4).
    """
    attributes = np.random.default_rng(0).normal(size=(N, 2))
    np.testing.assert_allclose(entropy(attributes), digamma(N) - digamma(4), atol=1e-3)


def test_mutual_information_of_correlated_normals() -> None:
    rng = np.random.default_rng(0)
    rho = np.array([0.5, 0.8, 0.95])
    attribute = rng.normal(size=(4000, 1))
    latents = rho * attribute + np.sqrt(1 - rho**2) * rng.normal(size=(4000, 3))
    np.testing.assert_allclose(mutual_information(latents, attribute)[:, 0], -np.log(1 - rho**2) / 2, atol=0.05)


def test_independent_latents() -> None:
    scores = disentanglement(uniform(4, seed=1), uniform(3), NAMES)
    assert scores["interpretability"] < 0.01
    assert scores["scc"] < 0.12
    assert scores["mig"] < 0.02
    assert scores["sap"] < 0.02


def test_an_attribute_in_two_dimensions_has_no_gap() -> None:
    attributes = uniform(2)
    scores = disentanglement(attributes[:, [0, 1, 0]], attributes, ["twice", "once"])
    twice, once = scores["per_attribute"]["twice"], scores["per_attribute"]["once"]
    assert twice["sap"] == pytest.approx(0, abs=1e-12)
    assert twice["mig"] == pytest.approx(0, abs=0.01)  # that noise breaks the even grid's ties
    assert once["sap"] > 0.98
    assert once["mig"] > 0.98


def test_a_monotone_dimension_ranks_perfectly_but_is_not_linear() -> None:
    attributes = uniform(2)
    scores = disentanglement(attributes**3, attributes, ["a", "b"])
    assert scores["scc"] == pytest.approx(1, abs=1e-12)
    assert scores["interpretability"] == pytest.approx(21 / 25, abs=1e-3)  # corr(u, u³)² for u ~ U(−1, 1)


def test_modularity_by_hand() -> None:
    information = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(modularity(information), [1 - 1 / 8, 1, 0, 0])


def test_order_of_the_dimensions_matters_to_the_regularised_ones_alone() -> None:
    attributes, unrelated = np.random.default_rng(0).normal(size=(2, N, 2))
    mixed = attributes @ np.array([[1.0, 0.7], [0.0, 0.7]])  # the second dimension follows both attributes
    latents = np.concatenate([mixed, unrelated], axis=1)
    straight, turned = (disentanglement(z, attributes, ["a", "b"]) for z in (latents, latents[:, ::-1]))
    for metric in MEANS:
        assert straight[metric] == pytest.approx(turned[metric], abs=1e-4)
    assert straight["modularity_regularised"] != pytest.approx(turned["modularity_regularised"], abs=1e-2)


def test_correlations_that_chance_explains_do_not_count() -> None:
    attributes = uniform(2)[:12]
    rng = np.random.default_rng(3)
    scores = disentanglement(rng.normal(size=(12, 2)), attributes, ["a", "b"])
    assert scores["interpretability"] > 0
    assert scores["scc"] == 0


def test_a_collapsed_dimension_follows_nothing() -> None:
    attributes = uniform(2)
    latents = np.concatenate([attributes, np.full((N, 1), 0.1)], axis=1)
    scores = disentanglement(latents, attributes, ["a", "b"])
    assert scores["scc"] == pytest.approx(1, abs=1e-12)
    assert scores["sap"] > 0.98


def test_rows_without_attributes_are_dropped_and_counted() -> None:
    latents, attributes = uniform(3, seed=1), uniform(2)
    holed = attributes.copy()
    holed[[3, 5], [0, 1]] = np.nan
    kept = np.delete(np.arange(N), [3, 5])
    scores = disentanglement(latents, holed, ["a", "b"])
    assert (scores.pop("dropped"), scores["samples"]) == (2, N - 2)
    expected = disentanglement(latents[kept], attributes[kept], ["a", "b"])
    assert scores == {key: value for key, value in expected.items() if key != "dropped"}


@pytest.mark.parametrize(
    ("latents", "attributes", "message"),
    [
        (uniform(3)[:-1], uniform(2), r"latents \(599, 3\) and attributes \(600, 2\), expected .*one row per image"),
        (uniform(3), uniform(3), "got 2 names for 3 attributes: name each one"),
        (uniform(1), uniform(2), "got 1 dimensions and 2 attributes, expected 2 or more of each"),
        (uniform(3) * np.nan, uniform(2), "got NaN or infinite latents, expected finite ones: check the encoder"),
        (uniform(3), uniform(2) * [0, 1], r"got constant attributes \['a'\], expected varying ones: leave them out"),
        (uniform(3), uniform(2) * np.nan, "got no row without NaN attributes: check the measured images"),
    ],
)
def test_bad_arrays_are_refused(latents: np.ndarray, attributes: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        disentanglement(latents, attributes, ["a", "b"])
