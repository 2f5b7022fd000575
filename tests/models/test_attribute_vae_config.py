"""A configuration that cannot work is refused before anything is built, with what to change."""

from __future__ import annotations

from typing import Any

import pytest

from meddiffusers import AttributeVAE


def curve(**changes: Any) -> dict[str, Any]:
    return {
        "attributes": ["area"],
        "calibration": {"area": {"unit": "px", "values": [1, 2], "latents": [0, 1]} | changes},
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"likelihood": "poisson"},
            r"likelihood='poisson' is unknown\. Expected one of bernoulli, gaussian, categorical",
        ),
        ({"sample_size": 30}, r"sample_size=30: .* divisible by 4, the stride of 2 blocks\. Pad or resize"),
        ({"sample_size": [28, 30]}, r"sample_size=\[28, 30\]: expected one side or \(height, width\)"),
        ({"sample_size": 0}, r"sample_size=0: expected"),
        ({"sample_size": [28]}, r"sample_size=\[28\]: expected"),
        ({"sample_size": [28, 28, 28]}, r"sample_size=\[28, 28, 28\]: expected"),
        ({"sample_size": 28, "block_out_channels": [8, 8, 8]}, r"divisible by 8, the stride of 3 blocks"),
        ({"attributes": ["area", "area"]}, r"2 attributes \['area', 'area'\] do not fit .* Remove doubles"),
        ({"attributes": ["a", "b"], "latent_dim": 1}, r"do not fit 1 latent dimensions: .* raise latent_dim"),
        ({"value_range": [0, 255]}, r"value_range=\(0, 255\) does not fit likelihood='bernoulli'.* Rescale the images"),
        ({"value_range": [1, -1], "likelihood": "gaussian"}, r"the lower end must come first"),
        ({"likelihood": "categorical"}, r"in_channels=1: in_channels is the number of labels, .* at least 2"),
        ({"calibration": curve()["calibration"]}, r"calibration of 'area', which is none of the attributes \[\]"),
        (curve(unix="px"), r"the keys \['latents', 'unit', 'unix', 'values'\], expected unit, values and latents"),
        (curve(values=[1, 2, 3]), r"has 3 values and 2 latents, expected equally many, at least 2"),
        (curve(values=[1], latents=[0]), r"has 1 values and 1 latents"),
        (curve(values=[2, 1]), r"calibration of 'area' must increase in both 'values' and 'latents'"),
        (curve(latents=[0, 0]), r"must increase in both"),
        (curve(values=[1, float("nan")]), r"must increase in both"),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttributeVAE(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"sample_size": (28, 32), "value_range": (-1024, 3071), "likelihood": "gaussian"},
        {"in_channels": 2, "likelihood": "categorical"},
        {"attributes": ["a", "b"], "latent_dim": 2},
        curve(),
    ],
)
def test_good_ones_are_kept_as_they_are(config: dict[str, Any]) -> None:
    assert {name: AttributeVAE(**config, hidden_dim=4).config[name] for name in config} == config
