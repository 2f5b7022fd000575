from __future__ import annotations

import itertools
import re
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kid_score, squared_mmd


def normal(n: int, dimensions: int = 8, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (n, dimensions))


def by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(side, 2)]) for side in (x, y)]
    return float(sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 3), (4, 9)])
def test_it_is_the_estimate_of_the_paper(n: int, m: int) -> None:
    x, y = normal(n, seed=1), normal(m, mean=0.5, seed=2)
    assert squared_mmd(x, y) == pytest.approx(by_loops(x, y), rel=1e-12)


def test_two_points_are_worked_by_hand() -> None:
    assert squared_mmd([[0.0], [0.0]], [[1.0], [1.0]]) == pytest.approx(1 + 8 - 2 * 1)


def test_equal_distributions_average_to_zero_at_any_number() -> None:
    estimates = [squared_mmd(normal(6, seed=seed), normal(9, seed=10_000 + seed)) for seed in range(2000)]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / np.sqrt(2000)
    assert 0.4 < np.mean(np.array(estimates) < 0) < 0.7


def test_the_interval_is_that_of_repeated_sampling() -> None:
    estimates = [squared_mmd(normal(100, seed=2 * s), normal(100, mean=0.5, seed=2 * s + 1)) for s in range(200)]
    low, high = np.percentile(estimates, (2.5, 97.5))
    widths = []
    for seed in range(20):
        distance = kid_score(normal(100, seed=2 * seed), normal(100, mean=0.5, seed=2 * seed + 1))
        assert distance.low < distance.value < distance.high
        widths.append(distance.high - distance.low)
    assert np.mean(widths) == pytest.approx(high - low, rel=0.2)


def test_real_against_real_lies_about_zero_and_differs_from_what_differs() -> None:
    distance = kid_score(normal(80), normal(60, mean=0.5, seed=1))
    assert (distance.real, distance.generated, distance.half) == (80, 60, 30)
    assert distance.real_low < 0 < distance.real_high < distance.low
    same = kid_score(normal(80), normal(60, seed=1))
    assert same.low < 0 < same.high


def test_the_seed_decides_the_halves() -> None:
    x, y = normal(20), normal(20, seed=1)
    assert kid_score(x, y, seed=3) == kid_score(x, y, seed=3) != kid_score(x, y, seed=4)


def test_it_reads_as_a_sentence() -> None:
    text = str(kid_score(normal(8), normal(12, seed=1)))
    number = r"-?[\d.e-]+"
    assert re.fullmatch(
        rf"KID {number} \(95 %: {number} to {number}\), 12 against 8 real; "
        rf"real against real, 4 each: {number} to {number}",
        text,
    )


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(3), normal(8), r"shapes \(3, 8\) and \(8, 8\); expected \(N, d\) and \(M, d\), 4 or more"),
        (normal(8), normal(8, dimensions=9), r"shapes \(8, 8\) and \(8, 9\)"),
        (normal(8)[0], normal(8), r"shapes \(8,\) and \(8, 8\)"),
        (np.full((8, 8), np.nan), normal(8), "NaN or infinite"),
    ],
)
def test_other_features_are_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kid_score(x, y)


def template_slices() -> np.ndarray:
    """(32, 96, 80) in [0, 1]: axial slices of the ICBM template, 3 mm apart."""
    spec = find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    name = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    image: nibabel.Nifti1Image = nibabel.load(Path(spec.origin).parent / "datasets" / "data" / name)
    volume = np.asarray(image.dataobj, dtype=np.float32)[18:178:2, 20:212:2, 50:146:3]
    return np.moveaxis(volume, 2, 0).swapaxes(1, 2)[:, ::-1] / 255


@pytest.mark.slow
def test_degraded_slices_of_a_real_brain_are_ranked() -> None:
    extractor = EfficientNetLite0()
    real, others = template_slices()[::2], template_slices()[1::2]
    noise = np.random.default_rng(0).normal(0, 1, others.shape)
    degraded = {
        "none": others,
        "blur": ndimage.gaussian_filter(others, (0, 1, 1)),
        "more blur": ndimage.gaussian_filter(others, (0, 2, 2)),
        "noise": (others + 0.03 * noise).clip(0, 1),
        "more noise": (others + 0.2 * noise).clip(0, 1),
        "less contrast": np.where(others > 0, 0.7 + 0.25 * (others - 0.7), 0),
        "least contrast": np.where(others > 0, 0.7 + 0.1 * (others - 0.7), 0),
    }
    features = extractor(real)
    distances = {name: kid_score(features, extractor(images)) for name, images in degraded.items()}
    none = distances.pop("none")
    assert none.low < 0.01 < none.high
    assert all(distance.value > none.high for distance in distances.values()), distances
    for little, much in (("blur", "more blur"), ("noise", "more noise"), ("less contrast", "least contrast")):
        assert distances[much].low > distances[little].high
