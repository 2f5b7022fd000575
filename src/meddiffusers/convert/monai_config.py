"""Read the configurations of a MONAI bundle: `configs/*.json`, of which only plain values and references are used.

The size of the latents stands in one of several places:

| place | example |
|---|---|
| `latent_shape` | `[8, 36, 44, 28]` |
| `noise`, an expression, of which only the numbers are read | `"$torch.randn((1, 3, 20, 28, 20)).to(@device)"` |
| `network_data_format` of `metadata.json`, for latents or for images | `"spatial_shape": [160, 224, 160]` |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meddiffusers.convert.monai_references import References, is_disabled, unevaluated
from meddiffusers.utils.reading import read_json

OLD_SETTINGS = {"num_channels": "channels"}  # names in GenerativeModels
IGNORED = ("use_checkpointing", "use_checkpoint", "include_fc")
CONFIGS = ("inference.json", "train_diffusion.json", "train_autoencoder.json")
_NOISE = re.compile(r"randn\(\s*[\[(]?\s*(\d+(?:\s*,\s*\d+)*)\s*,?\s*[\])]")
_REQUIRED = {"spatial_dims", "in_channels", "out_channels", "channels"}


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the entries of all configurations; those of the first of `CONFIGS` take precedence.

    Raises:
        ValueError: There is none, or one is damaged.
    """
    settings: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).exists():
            settings |= {key: value for key, value in read_json(folder / name).items() if key not in settings}
    if not settings:
        raise ValueError(f"{folder} holds none of {', '.join(CONFIGS)}; expected the folder of a bundle.")
    return settings


def read_formats(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `metadata.json` says of the network's inputs and outputs, by name; empty without that file."""
    file = folder / "metadata.json"
    formats = read_json(file).get("network_data_format") if file.exists() else None
    kinds = formats.values() if isinstance(formats, dict) else ()
    entries = [item for kind in kinds if isinstance(kind, dict) for item in kind.items()]
    return {str(name): entry for name, entry in entries if isinstance(entry, dict)}


def description(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the arguments of the network of this class.

    Raises:
        ValueError: The configurations describe no such network, or not with plain values.
    """
    for place, entry in settings.items():
        if isinstance(entry, dict) and str(entry.get("_target_")).rpartition(".")[2] == name and not is_disabled(entry):
            raw = {key: value for key, value in entry.items() if not key.startswith("_") and key not in IGNORED}
            values = References(settings).value(raw, (place,)).items()
            described = {OLD_SETTINGS.get(key, key): value for key, value in values}
            _check_description(name, described)
            return described
    raise ValueError(f"The configurations describe no {name}; expected those of a latent diffusion model.")


def _check_description(name: str, described: Mapping[str, Any]) -> None:
    if missing := sorted(_REQUIRED - set(described)):
        raise ValueError(f"The configuration of {name} lacks {', '.join(missing)}. Restore it.")
    if expressions := [key for key, value in described.items() if unevaluated(value)]:
        raise ValueError(
            f"The configuration of {name} has expressions for {', '.join(expressions)}, which are not "
            "evaluated. Write the values instead."
        )
    if described["spatial_dims"] not in (2, 3):
        raise ValueError(
            f"The configuration of {name} has spatial_dims as {described['spatial_dims']!r}; expected 2 or 3."
        )
    counts = {key: described[key] if key == "channels" else [described[key]] for key in sorted(_REQUIRED)}
    for key, values in counts.items():
        if not isinstance(values, list) or not values or any(type(value) is not int or value < 1 for value in values):
            expected = "a list of positive whole numbers" if key == "channels" else "a positive whole number"
            raise ValueError(f"The configuration of {name} has {key} as {described[key]!r}; expected {expected}.")


def latent_size(
    settings: Mapping[str, Any], formats: Mapping[str, Mapping[str, Any]], channels: int, dims: int, factor: int
) -> list[int] | None:
    """Return the sides of the latents, from the first place that states them; None if there is none.

    Args:
        settings: Entries of the configurations.
        formats: Inputs and outputs of the network, from `read_formats`.
        channels: Channels of the latents.
        dims: Spatial dimensions.
        factor: Factor by which the autoencoder reduces each side.
    """
    shape = References(settings).value(settings.get("latent_shape"), ("latent_shape",))
    noise = _NOISE.search(str(settings.get("noise", "")))
    numbers = [int(number) for number in noise[1].split(",")] if noise else []
    for sides in (shape, numbers[1:]):
        if isinstance(sides, list) and len(sides) == dims + 1 and all(type(side) is int for side in sides):
            return sides[1:] if sides[0] == channels and min(sides) > 0 else None
    for name, entry in formats.items():
        sides = entry.get("spatial_shape")
        if isinstance(sides, list) and len(sides) == dims and all(type(side) is int and side > 0 for side in sides):
            if "latent" in name and entry.get("num_channels") == channels:
                return sides
            if name == "pred" and entry.get("num_channels") != channels and not any(side % factor for side in sides):
                return [side // factor for side in sides]
    return None


def covariate_names(formats: Mapping[str, Mapping[str, Any]], count: int) -> list[str]:
    """Return the names of the covariates from the metadata, or `covariate_0`, … if it names them not, or not all."""
    for entry in formats.values():
        names = entry.get("channel_def")
        if entry.get("type") == "tabular" and isinstance(names, dict) and len(names) == count:
            in_order = [names[key] for key in sorted(names, key=lambda key: (len(key), key))]
            texts = ["_".join(str(name).lower().split()) for name in in_order]
            if len({text for text in texts if text}) == count and all(isinstance(each, str) for each in names.values()):
                return texts
    return [f"covariate_{i}" for i in range(count)]


def ranges_of(names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the ranges of covariates from texts `name`, `name=LOW/HIGH` or `name=CATEGORY/CATEGORY…`.

    A name alone stands for a number from 0 to 1.

    Raises:
        ValueError: A name that occurs twice, or values that are neither a range nor different categories.

    Example:
        >>> ranges_of(["sex=F/M", "age=44/82", "brain_volume"])
        {'sex': ['F', 'M'], 'age': [44.0, 82.0], 'brain_volume': [0.0, 1.0]}
    """
    ranges: dict[str, list[Any]] = {}
    for text in names:
        name, _, values = text.partition("=")
        if not name or name in ranges:
            raise ValueError(f"Got the covariate {text!r}; expected names that occur once.")
        ranges[name] = _ends(text, [value.strip() for value in values.split("/")] if values else ["0", "1"])
    return ranges


def _ends(text: str, values: list[str]) -> list[Any]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        if len(set(values)) == len(values) > 1 and all(values):
            return values
        raise ValueError(f"Got the covariate {text!r}; expected different categories, as in sex=F/M.") from None
    if len(numbers) == 2 and numbers[0] < numbers[1] and all(map(math.isfinite, numbers)):
        return numbers
    raise ValueError(f"Got the covariate {text!r}; expected the lowest and the highest value, as in age=44/82.")
