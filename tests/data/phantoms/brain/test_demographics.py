from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.demographics import (
    BRAIN_ML,
    VENTRICLES_ML,
    Demographics,
    random_demographics,
    typical_demographics,
)


def test_volumes_go_with_age_and_sex() -> None:
    rng = np.random.default_rng(0)
    people = [random_demographics(rng) for _ in range(2000)]
    ages = np.array([person.age for person in people])
    brains = np.array([person.brain_volume_ml for person in people])
    ventricles = np.array([person.ventricular_volume_ml for person in people])
    men = np.array([person.sex == "M" for person in people])
    assert np.corrcoef(ages, ventricles)[0, 1] > 0.6
    assert np.corrcoef(ages[men], brains[men])[0, 1] < -0.3
    assert 100 < brains[men].mean() - brains[~men].mean() < 180
    assert men.mean() == pytest.approx(0.5, abs=0.05)
    assert BRAIN_ML[0] <= brains.min() <= brains.max() <= BRAIN_ML[1]
    assert VENTRICLES_ML[0] <= ventricles.min() <= ventricles.max() <= VENTRICLES_ML[1]


def test_what_is_given_is_kept_and_the_rest_does_not_change_with_it() -> None:
    free = random_demographics(np.random.default_rng(3))
    given = random_demographics(
        np.random.default_rng(3), age=30, sex="F", brain_volume_ml=1200, ventricular_volume_ml=20
    )
    assert given == Demographics(30, "F", 1200, 20)
    assert random_demographics(np.random.default_rng(3), age=free.age) == free


def test_typical_demographics_are_the_median() -> None:
    rng = np.random.default_rng(1)
    people = [random_demographics(rng, age=60, sex="F") for _ in range(1000)]
    middle = typical_demographics(60, "F")
    for name in ("brain_volume_ml", "ventricular_volume_ml"):
        assert getattr(middle, name) == pytest.approx(np.median([getattr(each, name) for each in people]), rel=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((17, "F", 1200, 20), "age=17; the phantom's range is 18 to 90"),
        ((50, "x", 1200, 20), "sex='x'; expected one of F, M"),
        ((50, "F", 900, 20), "brain_volume_ml=900"),
        ((50, "F", 1200, 70), "ventricular_volume_ml=70; the phantom's range is 8 to 60"),
        ((50, "F", float("nan"), 20), "brain_volume_ml=nan"),
    ],
)
def test_values_out_of_range_are_refused(values: tuple[float, str, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Demographics(*values)
