"""Disentanglement: five metrics of how latent dimensions follow attributes, for latents (B, K) and attributes (B, A).

The metrics are those of Pati and Lerch, "Attribute-based regularization of latent spaces for variational
auto-encoders", Neural Computing and Applications 2020 (arXiv 2004.05485). I[k, a] is the mutual information, in nats,
of dimension k and attribute a, by the k-nearest-neighbour estimator; H[a] = I(a; a) by the same estimator.

    interpretability  R² of the linear fit of attribute a to the dimension of largest I[·, a]   (Adel et al. 2018)
    SCC               largest |Spearman correlation| of attribute a with a dimension, p ≤ 0.05
    modularity        of dimension k: 1 − Σ_{a ≠ a*} I[k, a]² / ((A − 1) · I[k, a*]²), a* its largest
                                                                                            (Ridgeway & Mozer 2018)
    MIG               gap between the two largest I[·, a], divided by H[a]                      (Chen et al. 2018)
    SAP               gap between the two largest squared Pearson correlations with a           (Kumar et al. 2018)

H grows with log B: compare MIG at equal B only. Every metric depends on whether latents are posterior means or samples:
report which. The first A dimensions are taken as the regularised ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.feature_selection import mutual_info_regression

SIGNIFICANT = 0.05


def disentanglement(latents: np.ndarray, attributes: np.ndarray, names: Sequence[str]) -> dict[str, float | dict]:
    """Compute all metrics as means over attributes or dimensions.

    Args:
        latents: (B, K), finite.
        attributes: (B, A); rows with NaN are dropped.
        names: A names.

    Returns:
        The means, "samples" (rows used), "dropped" (rows with NaN), and "per_attribute" with the metrics of each name.

    Raises:
        ValueError: Shapes do not match, there are fewer than two dimensions or attributes, or an attribute is constant.
    """
    _check(latents, attributes, names)
    complete = np.isfinite(attributes).all(axis=1)
    latents, attributes = latents[complete], attributes[complete]
    _check_variation(attributes, names)
    information = mutual_information(latents, attributes)
    each = {
        "interpretability": interpretability(latents, attributes, information),
        "scc": scc(latents, attributes),
        "mig": mig(information, entropy(attributes)),
        "sap": sap(latents, attributes),
    }
    modular = modularity(information)
    return {
        **{metric: float(values.mean()) for metric, values in each.items()},
        "modularity": float(modular.mean()),
        "modularity_regularised": float(modular[: len(names)].mean()),
        "samples": int(complete.sum()),
        "dropped": int((~complete).sum()),
        "per_attribute": {
            name: {metric: float(values[a]) for metric, values in each.items()} for a, name in enumerate(names)
        },
    }


def mutual_information(latents: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """I (K, A) in nats."""
    return np.stack([mutual_info_regression(latents, attribute, random_state=0) for attribute in attributes.T], axis=1)


def entropy(attributes: np.ndarray) -> np.ndarray:
    """H (A,) in nats: the mutual information of each attribute with itself."""
    columns = attributes.T
    return np.array([mutual_info_regression(column[:, None], column, random_state=0)[0] for column in columns])


def interpretability(latents: np.ndarray, attributes: np.ndarray, information: np.ndarray) -> np.ndarray:
    """(A,), in [0, 1]."""
    followed = information.argmax(axis=0)
    return _correlation(latents, attributes)[followed, np.arange(attributes.shape[1])] ** 2


def scc(latents: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """(A,), in [0, 1]."""
    rho = np.abs(_correlation(stats.rankdata(latents, axis=0), stats.rankdata(attributes, axis=0)))
    freedom = len(latents) - 2
    p = 2 * stats.t.sf(rho * np.sqrt(freedom / np.maximum(1 - rho**2, np.finfo(float).eps)), freedom)
    return np.where(p <= SIGNIFICANT, rho, 0).max(axis=0)


def modularity(information: np.ndarray) -> np.ndarray:
    """(K,), in [0, 1]; 0 for a dimension without information on any attribute."""
    squared = information**2
    largest = squared.max(axis=1)
    others = squared.sum(axis=1) - largest
    scale = largest * (information.shape[1] - 1)
    return 1 - np.divide(others, scale, out=np.ones_like(others), where=scale > 0)


def mig(information: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """(A,); 0 for an attribute whose entropy is estimated as 0, as that of very few samples is."""
    gap = _gap(information)
    return np.divide(gap, entropies, out=np.zeros_like(gap), where=entropies > 0)


def sap(latents: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """(A,), in [0, 1]."""
    return _gap(_correlation(latents, attributes) ** 2)


def _gap(scores: np.ndarray) -> np.ndarray:
    second, first = np.sort(scores, axis=0)[-2:]
    return first - second


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation (K, A) of every column of x with every column of y; 0 where a column does not vary."""

    def unit(columns: np.ndarray) -> np.ndarray:
        centred = columns - columns.mean(axis=0, dtype=np.float64)
        norm = np.linalg.norm(centred, axis=0)
        return np.divide(centred, norm, out=np.zeros_like(centred), where=np.ptp(columns, axis=0) > 0)

    return unit(x).T @ unit(y)


def _check(latents: np.ndarray, attributes: np.ndarray, names: Sequence[str]) -> None:
    if latents.ndim != 2 or attributes.ndim != 2 or len(latents) != len(attributes):
        raise ValueError(
            f"disentanglement got latents {latents.shape} and attributes {attributes.shape}, expected (B, K) and "
            "(B, A): pass one row per image in both"
        )
    if attributes.shape[1] != len(names):
        raise ValueError(f"disentanglement got {len(names)} names for {attributes.shape[1]} attributes: name each one")
    if min(latents.shape[1], attributes.shape[1]) < 2:
        raise ValueError(
            f"disentanglement got {latents.shape[1]} dimensions and {attributes.shape[1]} attributes, expected 2 or "
            "more of each, as it compares them: call interpretability or scc alone"
        )
    if not np.isfinite(latents).all():
        raise ValueError("disentanglement got NaN or infinite latents, expected finite ones: check the encoder")


def _check_variation(attributes: np.ndarray, names: Sequence[str]) -> None:
    if not len(attributes):
        raise ValueError("disentanglement got no row without NaN attributes: check the measured images")
    constant = [name for name, spread in zip(names, np.ptp(attributes, axis=0), strict=True) if spread == 0]
    if constant:
        raise ValueError(f"disentanglement got constant attributes {constant}, expected varying ones: leave them out")
