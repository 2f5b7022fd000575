"""Rules for values inside the settings of this project's classes, which annotations do not express.

| setting | rule |
|---|---|
| all | finite numbers, but for defaults |
| `spacing`, `scaling_factor`, `sample_size` | above 0 |
| `image_range`, `mask_range`, `value_range` | a lower and a higher end |
| `modalities`, `id2label`, `mask_labels`, `attributes` | different names, which are no blanks |
| `latent_moments` | mean and covariance of as many latents, the covariance positive definite |
| `prompt_limits` | texts of words and modalities, and a lower and a higher end of each range |
| `noise_schedule` | entries of `describe_noise`, with betas above 0 and at most 1 |
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from meddiffusers.pipelines.meddiffusers_noise_v1 import BETAS, FLOW, PREDICTION_TYPES


def rule_issues(file: str, config: Mapping[str, Any], cls: Any) -> list[str]:
    """Check the values in a configuration.

    Args:
        file: Name of the configuration.
        config: Its content, which `value_issues` has passed.
        cls: The class that is configured.
    """
    defaults = {name: each.default for name, each in inspect.signature(cls.__init__).parameters.items()}
    given = {name: value for name, value in config.items() if name in defaults and value is not None}
    given = {name: value for name, value in given.items() if type(value) is not float or value != defaults[name]}
    wrong = {name: "finite numbers" for name, value in given.items() if not all(map(math.isfinite, _numbers(value)))}
    for name in given.keys() - wrong.keys():
        rule, expected = _RULES.get(name, (None, ""))
        if rule is not None and not _holds(rule, given[name]):
            wrong[name] = expected
    return [
        f"{file} has {name} as {_short(config[name])}; expected {wrong[name]}. Restore it." for name in sorted(wrong)
    ]


def _holds(rule: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(rule(value))
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError):
        return False  # a value of another form


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _numbers(part)


def _listed(value: Any) -> list[Any]:
    """A list, or the values of {"0": …, "1": …}, in which diffusers keeps lists."""
    if isinstance(value, Mapping):
        if set(value) != {str(i) for i in range(len(value))}:
            raise ValueError("these are no indices")
        return [value[str(i)] for i in range(len(value))]
    return list(value)


def _is_range(value: Any) -> bool:
    low, high = _listed(value)
    return not {type(low), type(high)} - {int, float} and low < high


def _are_names(value: Any) -> bool:
    names = list(value.values()) if isinstance(value, Mapping) else list(value)
    are_ids = not isinstance(value, Mapping) or all(str(key).isdecimal() for key in value)
    return bool(names) and are_ids and len(set(names)) == len(names) and all(name.strip() for name in names)


def _are_positive(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return bool(numbers) and all(type(number) in (int, float) and number > 0 for number in numbers)


def _are_moments(value: Mapping[str, Any]) -> bool:
    mean, covariance = np.asarray(value["mean"]), np.asarray(value["covariance"])
    if {mean.dtype.kind, covariance.dtype.kind} - {"i", "f"}:
        return False
    is_square = covariance.shape == (mean.size, mean.size) and np.allclose(covariance, covariance.T, rtol=1e-4)
    return set(value) == {"mean", "covariance"} and is_square and bool(np.linalg.eigvalsh(covariance).min() > 0)


def _are_calibrations(value: Mapping[str, Any]) -> bool:
    numbers = [number for each in value.values() for number in (*each["values"], *each["latents"])]
    are_units = all(isinstance(each["unit"], str) for each in value.values())
    return are_units and not {type(number) for number in numbers} - {int, float}


def _are_limits(value: Mapping[str, Any]) -> bool:
    texts = (value["words"], value["modalities"])
    ranges = [list(ends) for ends in value["ranges"].values()]
    are_ranges = all(len(ends) == 2 and _is_range([ends[0], ends[1] + 1]) for ends in ranges)  # one value is a range
    return set(value) == {"words", "modalities", "ranges"} and are_ranges and all(text.split() for text in texts)


def _is_noise(value: Mapping[str, Any]) -> bool:
    kind, steps = value["prediction_type"], value["num_train_timesteps"]
    if set(value) - {"prediction_type", *BETAS} or kind not in PREDICTION_TYPES or type(steps) is not int or steps < 1:
        return False
    if type(value.get("rescale_betas_zero_snr", False)) is not bool:
        return False
    if kind == FLOW:
        return True
    betas = DDPMScheduler(**{name: entry for name, entry in value.items() if name != "prediction_type"}).betas
    return len(betas) == steps and bool(((betas > 0) & (betas <= 1)).all())  # false for NaN, too


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "spacing": (_are_positive, "a length in mm, above 0"),
    "sample_size": (_are_positive, "sides in pixels or voxels, above 0"),
    "scaling_factor": (_are_positive, "a number above 0"),
    **dict.fromkeys(("image_range", "mask_range", "value_range"), (_is_range, "a lower and a higher end")),
    **dict.fromkeys(
        ("modalities", "id2label", "mask_labels", "attributes"), (_are_names, "different names, none of them blank")
    ),
    "latent_moments": (_are_moments, "a mean and a positive definite covariance of as many latents"),
    "calibration": (_are_calibrations, "a unit, and values and latents that are numbers, for each attribute"),
    "prompt_limits": (_are_limits, "words, modalities, and ranges with a lower and a higher end"),
    "noise_schedule": (_is_noise, "the noise of a training, with betas above 0 and at most 1"),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
