from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract, tensors
from contracts.published_contract import PublishedContract

from meddiffusers import AttributeVAE

SMALL: dict[str, Any] = {"sample_size": 8, "block_out_channels": [4], "hidden_dim": 8, "latent_dim": 3}
AREA = {"unit": "px", "values": [10.0, 20.0, 50.0], "latents": [-1.5, 0.5, 2.0]}


class TestAttributeVAE(ModelContract, PublishedContract):
    model_class = AttributeVAE
    config = {
        "in_channels": 3,
        "sample_size": [8, 12],
        "block_out_channels": [4, 8],
        "hidden_dim": 8,
        "latent_dim": 3,
        "attributes": ["area", "slant"],
        "calibration": {"area": AREA},
    }

    def inputs(self, batch_size: int) -> dict[str, torch.Tensor]:
        return {"sample": torch.rand(batch_size, 3, 8, 12)}


@pytest.fixture
def calibrated() -> AttributeVAE:
    return AttributeVAE(**SMALL, attributes=["area", "slant"], calibration={"area": AREA})


def test_the_number_of_weights_is_that_of_the_layers() -> None:
    convolutions = (1 * 32 * 16 + 32) + (32 * 64 * 16 + 64) + (64 * 32 * 16 + 32) + (32 * 1 * 16 + 1)
    features = 64 * 7 * 7
    encoder = (features * 256 + 256) + (256 * 2 * 16 + 2 * 16)
    decoder = (16 * 256 + 256) + (256 * features + features)
    assert AttributeVAE().num_parameters() == convolutions + encoder + decoder


@pytest.mark.parametrize(
    ("channels", "size", "blocks", "likelihood"),
    [
        (1, 8, [4], "bernoulli"),
        (3, [8, 12], [4, 8], "bernoulli"),
        (2, (24, 8), (2, 2, 2), "gaussian"),
        (4, [5, 7], [], "categorical"),
    ],
)
def test_every_size_and_likelihood(channels: int, size: Any, blocks: Any, likelihood: str, tmp_path: Path) -> None:
    config = {**SMALL, "sample_size": size, "block_out_channels": blocks, "attributes": []}  # a plain VAE
    vae = AttributeVAE(**config, in_channels=channels, likelihood=likelihood).eval()
    height, width = (size, size) if isinstance(size, int) else size
    assert vae.image_size == (height, width)
    x = torch.rand(2, channels, height, width)
    posterior = vae.encode(x).latent_dist
    assert posterior.mean.shape == posterior.logvar.shape == (2, 3)
    assert vae.decode(posterior.mean).sample.shape == x.shape
    vae.save_pretrained(tmp_path)
    loaded = AttributeVAE.from_pretrained(tmp_path)
    torch.testing.assert_close(tensors(loaded(x)), tensors(vae(x)), rtol=0, atol=0)


class TestForward:
    x = torch.rand(2, 1, 8, 8)

    @pytest.fixture
    def vae(self) -> AttributeVAE:
        return AttributeVAE(**SMALL).eval()

    def test_without_noise_latents_are_the_mean(self, vae: AttributeVAE) -> None:
        output = vae(self.x)
        torch.testing.assert_close(output.latents, vae.encode(self.x).latent_dist.mean, rtol=0, atol=0)
        torch.testing.assert_close(output.sample, vae.decode(output.latents).sample, rtol=0, atol=0)

    def test_given_noise_is_scaled_by_the_standard_deviation(self, vae: AttributeVAE) -> None:
        noise = torch.randn(2, 3)
        mean, logvar = vae.encoder(self.x).chunk(2, dim=1)
        output = vae(self.x, noise=noise)
        torch.testing.assert_close(output.latents, mean + (logvar / 2).exp() * noise)
        torch.testing.assert_close(output.sample, vae.decoder(output.latents), rtol=0, atol=0)

    def test_given_latents_are_decoded_and_nothing_is_encoded(self, vae: AttributeVAE) -> None:
        latents = torch.randn(2, 3)
        output = vae(latents=latents)
        torch.testing.assert_close(output.sample, vae.decode(latents).sample, rtol=0, atol=0)
        assert output.latents is latents and output.latent_dist is None

    def test_drawn_noise_comes_from_the_generator(self, vae: AttributeVAE) -> None:
        sampled = vae(self.x, sample_posterior=True, generator=torch.Generator().manual_seed(4)).latents
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(sampled, vae(self.x, noise=noise).latents, rtol=0, atol=0)


class TestExpectation:
    parameters = torch.tensor([[0.0, 1.0, 3.0, -2.0], [0.0, -1.0, 3.0, 5.0]]).reshape(1, 2, 2, 2)

    def test_bernoulli_is_the_probability(self) -> None:
        vae = AttributeVAE(**SMALL, in_channels=2)
        expected = 1 / (1 + torch.exp(-self.parameters))
        torch.testing.assert_close(vae.expectation(self.parameters), expected)

    def test_categorical_is_the_probability_of_each_label(self) -> None:
        vae = AttributeVAE(**SMALL, in_channels=2, likelihood="categorical")
        first = 1 / (1 + torch.exp(self.parameters[:, 1] - self.parameters[:, 0]))
        torch.testing.assert_close(vae.expectation(self.parameters), torch.stack([first, 1 - first], dim=1))

    def test_gaussian_is_the_mean_within_the_range(self) -> None:
        vae = AttributeVAE(**SMALL, in_channels=2, likelihood="gaussian", value_range=(-1, 2))
        expected = torch.tensor([[0.0, 1.0, 2.0, -1.0], [0.0, -1.0, 2.0, 2.0]]).reshape(1, 2, 2, 2)
        torch.testing.assert_close(vae.expectation(self.parameters), expected)


class TestCalibration:
    @pytest.mark.parametrize(("value", "latent"), [(10, -1.5), (15, -0.5), (20, 0.5), (35, 1.25), (50, 2)])
    def test_is_piecewise_linear_both_ways(self, calibrated: AttributeVAE, value: float, latent: float) -> None:
        assert calibrated.attribute_to_latent("area", value) == pytest.approx(latent)
        assert calibrated.latent_to_attribute("area", latent) == pytest.approx(value)

    def test_latents_beyond_the_curve_give_its_ends(self, calibrated: AttributeVAE) -> None:
        assert calibrated.latent_to_attribute("area", -9) == 10
        assert calibrated.latent_to_attribute("area", 9) == 50

    @pytest.mark.parametrize("value", [9.99, 50.01, float("nan")])
    def test_values_beyond_it_are_refused(self, calibrated: AttributeVAE, value: float) -> None:
        with pytest.raises(ValueError, match=r"area=.* px lies outside the calibrated range \[10, 50\] px\. Give"):
            calibrated.attribute_to_latent("area", value)

    def test_unknown_attributes_are_named(self, calibrated: AttributeVAE) -> None:
        with pytest.raises(ValueError, match=r"no attribute 'colour'\. It has: area, slant\."):
            calibrated.attribute_to_latent("colour", 1)
        with pytest.raises(ValueError, match=r"no attribute 'area'\. It has: none\."):
            AttributeVAE(**SMALL).latent_to_attribute("area", 1)

    @pytest.mark.parametrize("calibration", [None, {"area": AREA}])
    def test_a_missing_calibration_is_named(self, calibration: dict[str, Any] | None) -> None:
        vae = AttributeVAE(**SMALL, attributes=["area", "slant"], calibration=calibration)
        with pytest.raises(ValueError, match=r"'slant' has no calibration, .* Calibrate the model after training"):
            vae.attribute_to_latent("slant", 0.1)

    def test_it_is_saved_with_the_model(self, calibrated: AttributeVAE, tmp_path: Path) -> None:
        calibrated.register_to_config(calibration={"slant": {"unit": "rad", "values": [0.1, 0.7], "latents": [-1, 1]}})
        calibrated.save_pretrained(tmp_path)
        loaded = AttributeVAE.from_pretrained(tmp_path)
        assert loaded.calibration_of("slant") == {"unit": "rad", "values": [0.1, 0.7], "latents": [-1, 1]}
        assert loaded.attribute_to_latent("slant", 0.1) == -1
