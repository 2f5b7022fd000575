"""Demographics of a subject: age, sex, brain and ventricular volume, correlated as in adults.

    brain volume        falls by 2.5 ml a year after 45; men's is 140 ml larger; σ 75 ml
    ventricular volume  log-normal, median 14 ml at 20, doubling within 42 years; men's is 15 % larger; σ 0.28

The trends are rounded from lifespan charts (Bethlehem et al., Nature 604, 2022); the bounds are the phantom's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AGES = (18.0, 90.0)  # years
BRAIN_ML = (1100.0, 1600.0)  # grey and white matter, without fluid
VENTRICLES_ML = (8.0, 60.0)  # lateral ventricles with temporal horns, third and fourth ventricle
SEXES = ("F", "M")


@dataclass(frozen=True)
class Demographics:
    """Demographics of a subject.

    Args:
        age: years, within `AGES`.
        sex: "F" or "M".
        brain_volume_ml: grey and white matter, within `BRAIN_ML`.
        ventricular_volume_ml: within `VENTRICLES_ML`.

    Raises:
        ValueError: a value is out of its range.
    """

    age: float
    sex: str
    brain_volume_ml: float
    ventricular_volume_ml: float

    def __post_init__(self) -> None:
        if self.sex not in SEXES:
            raise ValueError(f"sex={self.sex!r}; expected one of {', '.join(SEXES)}.")
        bounds = {"age": AGES, "brain_volume_ml": BRAIN_ML, "ventricular_volume_ml": VENTRICLES_ML}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name):g}; the phantom's range is {low:g} to {high:g}.")


def random_demographics(
    rng: np.random.Generator,
    age: float | None = None,
    sex: str | None = None,
    brain_volume_ml: float | None = None,
    ventricular_volume_ml: float | None = None,
) -> Demographics:
    """Sample the demographics that are not given; sampled volumes depend on age and sex."""
    random_age, random_sex, size, width = (
        rng.uniform(*AGES),
        rng.choice(SEXES),
        rng.standard_normal(),
        rng.standard_normal(),
    )
    age = float(random_age) if age is None else float(age)
    sex = str(random_sex) if sex is None else sex
    brain, ventricles = _usual(age, sex, size, width)
    return Demographics(
        age,
        sex,
        float(np.clip(brain, *BRAIN_ML)) if brain_volume_ml is None else float(brain_volume_ml),
        float(np.clip(ventricles, *VENTRICLES_ML)) if ventricular_volume_ml is None else float(ventricular_volume_ml),
    )


def typical_demographics(age: float, sex: str) -> Demographics:
    """Demographics with the median volumes for an age in years and a sex."""
    brain, ventricles = _usual(age, sex, 0.0, 0.0)
    return Demographics(age, sex, float(np.clip(brain, *BRAIN_ML)), float(np.clip(ventricles, *VENTRICLES_ML)))


def _usual(age: float, sex: str, size: float, width: float) -> tuple[float, float]:
    """Brain and ventricular volume in ml, `size` and `width` standard deviations from the median."""
    male = sex == "M"
    brain = 1240 + 140 * male - 2.5 * max(age - 45, 0) + 75 * size
    return brain, 14 * (1 + 0.15 * male) * 2 ** ((age - 20) / 42) * np.exp(0.28 * width)
