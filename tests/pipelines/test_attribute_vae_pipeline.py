from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload
from contracts.pipeline_contract import PipelineContract, generator
from contracts.published_contract import PublishedContract
from diffusers import AutoencoderTiny
from helpers.small_attribute_vae import calibrated, pipeline_of, random_images

from meddiffusers import AttributeVAEPipeline


class TestAttributeVAEPipeline(PipelineContract, PublishedContract):
    def build(self) -> AttributeVAEPipeline:
        return calibrated()

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {"batch_size": batch_size}


class TestCall:
    def test_samples_decode_standard_normal_latents(self) -> None:
        pipeline = calibrated()
        output = pipeline.sample(5, generator(3), output_type="pt")
        torch.testing.assert_close(output.latents, torch.randn(5, 4, generator=generator(3)), rtol=0, atol=0)
        torch.testing.assert_close(output.images, pipeline.vae.decoder(output.latents).sigmoid(), rtol=0, atol=0)

    def test_given_latents_are_decoded(self) -> None:
        pipeline, latents = calibrated(), torch.randn(2, 4, generator=generator(0))
        output = pipeline(latents=latents, output_type="np")
        np.testing.assert_array_equal(output.images, pipeline.decode(latents, output_type="np").images)
        assert torch.equal(output.latents, latents)

    def test_gaussian_images_show_the_value_range(self) -> None:
        pipeline = pipeline_of(likelihood="gaussian", value_range=(-1, 3))
        images = pipeline.sample(2, generator(0), output_type="np").images
        shown = np.stack(pipeline.sample(2, generator(0)).images)
        np.testing.assert_allclose(shown, 255 * (images[..., 0] + 1) / 4, atol=0.501)

    def test_it_wants_an_attribute_vae(self) -> None:
        with pytest.raises(TypeError, match="vae is a AutoencoderTiny; expected an AttributeVAE"):
            AttributeVAEPipeline(AutoencoderTiny())
        with pytest.raises(TypeError, match="vae is a NoneType"):
            AttributeVAEPipeline(None)


class TestDecode:
    @pytest.mark.parametrize(
        "latents", [torch.zeros(2, 3), torch.zeros(4), torch.zeros(1, 2, 4), torch.full((2, 4), torch.nan)]
    )
    def test_bad_latents_are_refused(self, latents: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=rf"shape \({latents.shape[0]},.*, expected finite values \(B, 4\)"):
            calibrated().decode(latents)

    def test_unknown_output_types_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"output_type='latent' is unknown\. Expected one of pil, np, pt"):
            calibrated().decode(torch.zeros(1, 4), output_type="latent")

    def test_images_have_one_or_three_channels(self) -> None:
        pipeline = pipeline_of(in_channels=2)
        with pytest.raises(ValueError, match=r"PIL has no images of 2 channels\. Use output_type='np' or 'pt'"):
            pipeline.sample()
        assert pipeline.sample(output_type="np").images.shape == (1, 8, 12, 2)

    def test_reconstruction_decodes_the_posterior_mean(self) -> None:
        pipeline, images = calibrated(), random_images(2, 1, 8, 12)
        expected = pipeline.vae(images).sample.sigmoid()
        torch.testing.assert_close(pipeline.reconstruct(images, output_type="pt").images, expected, rtol=0, atol=0)

    def test_offloaded_models_come_for_encoding_and_for_decoding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline, fetched = calibrated(), []

        def pre_forward(hook: CpuOffload, module: torch.nn.Module) -> None:
            fetched.append(module)

        monkeypatch.setattr(CpuOffload, "pre_forward", pre_forward)
        pipeline.enable_model_cpu_offload(device="cpu")
        pipeline.reconstruct(random_images(1, 1, 8, 12))
        assert fetched == [pipeline.vae, pipeline.vae]


def with_latents(*latents: list[float]) -> AttributeVAEPipeline:
    """A pipeline whose successive calls of `encode` give these."""
    pipeline, queue = calibrated(), [torch.tensor([vector]) for vector in latents]
    pipeline.encode = lambda images: queue.pop(0)
    return pipeline


class TestInterpolate:
    A, B = random_images(2, 1, 8, 12).split(1)

    @pytest.mark.parametrize("method", ["linear", "spherical"])
    def test_the_ends_are_the_reconstructions(self, method: str) -> None:
        pipeline = calibrated()
        images = pipeline.interpolate(self.A, self.B, steps=5, method=method, output_type="pt").images
        ends = pipeline.reconstruct([self.A, self.B], output_type="pt").images
        assert len(images) == 5
        torch.testing.assert_close(images[[0, -1]], ends, rtol=0, atol=1e-6)

    def test_linear_steps_are_equal(self) -> None:
        pipeline = calibrated()
        a, b = pipeline.encode([self.A, self.B])
        latents = pipeline.interpolate(self.A, self.B, steps=5).latents
        for step in range(5):
            torch.testing.assert_close(latents[step], a + step / 4 * (b - a))

    @pytest.mark.parametrize("method", ["linear", "spherical"])
    def test_an_image_and_itself(self, method: str) -> None:
        pipeline = calibrated()
        latents = pipeline.interpolate(self.A, self.A, steps=3, method=method).latents
        torch.testing.assert_close(latents, pipeline.encode(self.A).repeat(3, 1))

    def test_spherical_steps_turn_by_equal_angles_and_grow_evenly(self) -> None:
        pipeline = with_latents([3.0, 0, 0, 0], [0, 5.0, 0, 0])
        latents = pipeline.interpolate(self.A, self.B, steps=4, method="spherical").latents
        for step, vector in enumerate(latents):
            length, angle = 3 + 2 * step / 3, math.pi / 2 * step / 3
            expected = torch.tensor([length * math.cos(angle), length * math.sin(angle), 0, 0])
            torch.testing.assert_close(vector, expected)

    @pytest.mark.parametrize(
        ("a", "b"), [([1.0, 2, 0, 0], [2.0, 4, 0, 0]), ([0.0] * 4, [0.0] * 4), ([1.0, 0, 0, 0], [-1.0, 0, 0, 0])]
    )
    def test_spherical_is_straight_where_no_plane_is_given(self, a: list[float], b: list[float]) -> None:
        latents = with_latents(a, b).interpolate(self.A, self.B, steps=3, method="spherical").latents
        expected = torch.tensor([a, [(x + y) / 2 for x, y in zip(a, b, strict=True)], b])
        torch.testing.assert_close(latents, expected)

    def test_from_the_origin_stays_finite(self) -> None:
        latents = with_latents([0.0] * 4, [0, 2.0, 0, 0]).interpolate(self.A, self.B, method="spherical").latents
        torch.testing.assert_close(latents[[0, -1]], torch.tensor([[0, 0, 0, 0], [0, 2.0, 0, 0]]))

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"method='cubic' is unknown\. Expected one of linear, spherical"):
            calibrated().interpolate(self.A, self.B, method="cubic")
        with pytest.raises(ValueError, match="Got 2 images where one was expected"):
            calibrated().interpolate([self.A, self.A], self.B)


class TestAttributes:
    IMAGES = random_images(3, 1, 8, 12)

    def test_names_follow_the_dimensions(self) -> None:
        assert calibrated().attributes == ("area", "slant", "length")

    def test_edit_moves_the_named_dimensions_to_their_latents(self) -> None:
        pipeline = calibrated()
        expected = pipeline.encode(self.IMAGES)
        expected[:, 0], expected[:, 1] = 1.25, torch.tensor([-2.0, 0.0, 0.4])
        output = pipeline.edit(self.IMAGES, {"area": 35, "slant": [-0.5, 0, 0.1]}, output_type="pt")
        torch.testing.assert_close(output.latents, expected)
        torch.testing.assert_close(output.images, pipeline.vae.decoder(output.latents).sigmoid(), rtol=0, atol=0)

    @pytest.mark.parametrize("value", [20, np.float32(20), [20.0], (20, 20, 20), np.full(3, 20), torch.full((3,), 20)])
    def test_values_may_be_numbers_lists_and_arrays(self, value: Any) -> None:
        assert calibrated().edit(self.IMAGES, {"area": value}).latents[:, 0].tolist() == [0.5] * 3

    def test_reading_is_the_inverse_of_editing(self) -> None:
        pipeline = calibrated()
        latents = pipeline.edit(self.IMAGES, {"area": [12, 20, 49], "slant": [-0.4, 0, 0.5]}).latents
        pipeline.encode = lambda images: latents
        read = pipeline.read_attributes(self.IMAGES)
        assert set(read) == {"area", "slant"}  # length has no calibration
        np.testing.assert_allclose(read["area"], [12, 20, 49], rtol=1e-6)
        np.testing.assert_allclose(read["slant"], [-0.4, 0, 0.5], atol=1e-6)

    def test_traverse_moves_one_dimension_through_the_range(self) -> None:
        pipeline = calibrated()
        expected = pipeline.encode(self.IMAGES[0]).repeat(3, 1)
        expected[:, 0] = torch.tensor([-0.5, 0.0, 0.5])
        output = pipeline.traverse(self.IMAGES[0], "area", range=(15, 20), steps=3)
        torch.testing.assert_close(output.latents, expected)
        assert len(output.images) == 3

    def test_traverse_spans_the_calibration_by_default(self) -> None:
        latents = calibrated().traverse(self.IMAGES[0], "slant").latents
        torch.testing.assert_close(latents[:, 1], torch.linspace(-2, 2, 9))

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"colour": 1}, r"no attribute 'colour'\. It has: area, slant, length"),
            ({"length": 1}, r"'length' has no calibration"),
            ({"area": 51}, r"area=51 px lies outside the calibrated range \[10, 50\] px"),
            ({"area": [20, 20, 9]}, r"area=9 px lies outside"),
            ({"area": [20, 30]}, r"2 values of area for 3 images: give one for all or one for each image"),
        ],
    )
    def test_bad_edits_are_refused(self, attributes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            calibrated().edit(self.IMAGES, attributes)

    @pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
    def test_counts_that_cannot_be_meant(self, count: Any) -> None:
        pipeline = calibrated()
        with pytest.raises(ValueError, match=r"batch_size=.*; expected at least 1"):
            pipeline(count)
        with pytest.raises(ValueError, match=r"steps=.*; expected at least 1"):
            pipeline.interpolate(self.IMAGES[0], self.IMAGES[1], steps=count)
        with pytest.raises(ValueError, match=r"steps=.*; expected at least 1"):
            pipeline.traverse(self.IMAGES[0], "area", steps=count)

    def test_bad_traversals_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"area=5 px lies outside the calibrated range"):
            calibrated().traverse(self.IMAGES[0], "area", range=(5, 20))
        with pytest.raises(ValueError, match="no attribute 'colour'"):
            calibrated().traverse(self.IMAGES[0], "colour")
        with pytest.raises(ValueError, match="Got 3 images where one was expected"):
            calibrated().traverse(self.IMAGES, "area")
