"""Latent diffusion: contracts in two and three dimensions, conditions, guidance by its formula, known Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.conventions_contract import GuidanceContract, ScheduleContract, StateContract
from contracts.pipeline_contract import DenoisingContract, PipelineContract, generator
from contracts.published_contract import PublishedContract
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput
from helpers.small_latent_diffusion import of_images, of_volumes

from meddiffusers import LatentDiffusionPipeline


def quiet(pipeline: LatentDiffusionPipeline) -> LatentDiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestVolumes(
    PipelineContract, DenoisingContract, StateContract, GuidanceContract, ScheduleContract, PublishedContract
):
    def build(self) -> Any:
        return of_volumes()

    def arguments(self, batch_size: int) -> dict[str, Any]:
        covariates = {"age": 63, "sex": "F"}
        return {"batch_size": batch_size, "covariates": covariates, "guidance_scale": 2.0, "num_inference_steps": 2}

    def test_output_types_agree(self) -> None:
        pipeline = quiet(of_volumes(spacing=2.0))
        array, tensor, scans, latents = (
            pipeline(2, num_inference_steps=2, generator=generator(0), output_type=kind).images
            for kind in ("np", "pt", "nifti", "latent")
        )
        assert array.shape == (2, 8, 12, 8, 1) and array.dtype == np.float32 and 0 <= array.min() < array.max() <= 1
        np.testing.assert_array_equal(tensor.movedim(1, -1).numpy(), array)
        torch.testing.assert_close(pipeline.decode(latents), tensor)
        for volume, scan in zip(array, scans, strict=True):
            np.testing.assert_array_equal(scan.get_fdata(dtype=np.float32), volume[..., 0])
            assert scan.affine[:3, :3].tolist() == np.diag([2.0, 2.0, 2.0]).tolist()
            np.testing.assert_allclose(scan.affine @ [3.5, 5.5, 3.5, 1], [0, 0, 0, 1], atol=1e-9)
        with pytest.raises(ValueError, match="output_type='pil' in 3 dimensions; expected one of np, pt, nifti"):
            pipeline(output_type="pil")


class TestImages(
    PipelineContract, DenoisingContract, StateContract, GuidanceContract, ScheduleContract, PublishedContract
):
    def build(self) -> Any:
        return of_images()

    def arguments(self, batch_size: int) -> dict[str, Any]:
        mask = torch.zeros(8, 8, dtype=torch.long)
        mask[2:5, 3:] = 4
        return {
            "batch_size": batch_size,
            "label": "ill",
            "mask": mask,
            "guidance_scale": 2.0,
            "num_inference_steps": 2,
        }

    def test_output_types_agree(self) -> None:
        pipeline = quiet(of_images(modalities=["t1", "flair"], spacing=2.0))
        array, tensor, pil, scans = (
            pipeline(3, num_inference_steps=2, generator=generator(0), output_type=kind).images
            for kind in ("np", "pt", "pil", "nifti")
        )
        assert array.shape == (3, 8, 8, 2) and array.dtype == np.float32 and 0 <= array.min() < array.max() <= 1
        np.testing.assert_array_equal(tensor.movedim(1, -1).numpy(), array)
        for expected, images, scan in zip(array, pil, scans, strict=True):
            for channel, image in enumerate(images):
                assert image.mode == "I;16"
                np.testing.assert_allclose(np.asarray(image) / 65535, expected[..., channel], atol=1e-5)
            np.testing.assert_array_equal(scan.get_fdata(dtype=np.float32)[:, :, 0], expected.transpose(1, 0, 2))
            assert (scan.affine @ [0, 0, 0, 1]).tolist() == [7, 7, 0, 1]  # right and front


@torch.no_grad()
def test_guidance_follows_its_formula() -> None:
    pipeline, z = of_volumes(), torch.randn(2, 2, 4, 6, 4)
    conditions = {"covariates": torch.tensor([[0.2, 1.0], [0.9, 0.0]])}
    uncond, cond = pipeline.unet(z, 500).sample, pipeline.unet(z, 500, **conditions).sample
    for scale in (0.0, 1.0, 3.0):
        torch.testing.assert_close(pipeline.predict(z, 500, conditions, scale), uncond + scale * (cond - uncond))
    assert not torch.allclose(uncond, cond)


def test_the_batch_size_follows_from_the_conditions() -> None:
    pipeline = quiet(of_volumes())

    def count(*args: Any, **kwargs: Any) -> int:
        return len(pipeline(*args, num_inference_steps=1, output_type="latent", **kwargs).images)

    assert count() == 1 and count(3) == 3
    assert count(covariates={"age": 30}) == 1 and count(4, covariates={"age": 30}) == 4
    assert count(covariates=[{"age": 30}, {"sex": "M"}]) == 2
    with pytest.raises(ValueError, match=r"Got \{'covariates': 2\} for batch_size=3; expected one for all"):
        pipeline(3, covariates=[{"age": 30}, {"sex": "M"}])
    for wrong in (0, 2.5, True):
        with pytest.raises(ValueError, match="batch_size"):
            pipeline(wrong)


def test_images_do_not_depend_on_the_rest_of_the_batch() -> None:
    pipeline = quiet(of_volumes())
    rows = [{"age": 30}, {"age": 70, "sex": "M"}, {}]
    settings: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "pt"}
    together = pipeline(covariates=rows, generator=[generator(seed) for seed in range(3)], **settings).images
    for i, row in enumerate(rows):
        alone = pipeline(covariates=row, generator=generator(i), **settings).images
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


def test_a_mask_determines_the_size() -> None:
    pipeline = quiet(of_images())
    images = pipeline(mask=np.zeros((12, 16), int), num_inference_steps=1).images
    assert images.shape == (1, 12, 16, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": torch.full((8, 8), 3)}, r"with the ids 3; expected 2 axes, .* ids 0 and 1 \(core\), 4 \(rim\)"),
        ({"mask": torch.zeros(7, 8)}, r"label maps of shape \(1, 7, 8\); expected .* divisible by 2"),
        ({"mask": torch.zeros(1, 1, 8, 8)}, "expected 2 axes, or one more before them"),
        ({"label": "green"}, "Got the labels 'green'; expected one of well, ill"),
        ({"covariates": {"age": 3}}, "Got the covariates age; the model takes none"),
        ({"guidance_scale": 2.0}, "needs covariates, a label or a mask"),
        ({"latents": torch.zeros(1, 3, 4, 4)}, r"expected noise of shape \(1, 2, 4, 4\)"),
        ({"output_type": "film"}, "output_type='film' in 2 dimensions; expected one of np, pt, pil, nifti, latent"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments: dict[str, Any], message: str) -> None:
    pipeline = of_images()
    pipeline.unet.forward = lambda *_, **__: pytest.fail("the network ran")
    with pytest.raises(ValueError, match=message):
        pipeline(**arguments)


def test_covariates_may_be_extrapolated() -> None:
    pipeline = quiet(of_volumes())
    with pytest.raises(ValueError, match="age=95 is outside 20 to 80"):
        pipeline(covariates={"age": 95})
    with pytest.warns(UserWarning, match="age=95 is outside 20 to 80"):
        pipeline(covariates={"age": 95}, extrapolate=True, num_inference_steps=1)


@pytest.mark.parametrize(
    ("part", "config", "message"),
    [
        ("vae", of_images, r"dimensions \{'vae': 2, 'unet': 3\}"),
        ("modalities", ["t1", "t2"], "1 channels for 2 modalities"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part: str, config: Any, message: str) -> None:
    parts = of_volumes().components | {part: config().vae if callable(config) else config}
    with pytest.raises(ValueError, match=message):
        LatentDiffusionPipeline(**parts)


@pytest.mark.slow
def test_samples_of_a_known_gaussian_follow_their_covariate() -> None:
    """Latents of covariate u are N(u, 0.5²), of which v is known in closed form."""
    pipeline = quiet(of_volumes())
    pipeline.register_modules(scheduler=DDIMScheduler(clip_sample=False, prediction_type="v_prediction"))
    products = pipeline.scheduler.alphas_cumprod.double()

    def exact(sample: torch.Tensor, timestep: Any, covariates: torch.Tensor) -> Any:
        product = products[int(timestep)]
        alpha, sigma = product.sqrt(), (1 - product).sqrt()
        mean = covariates[:, 0].double().view(-1, 1, 1, 1, 1)
        gain = 0.25 * alpha / (0.25 * alpha**2 + sigma**2)
        x0 = mean + gain * (sample.double() - alpha * mean)
        noise = (sample.double() - alpha * x0) / sigma
        return UNet2DOutput(sample=(alpha * noise - sigma * x0).float())

    pipeline.unet.forward = exact
    for age, mean in ((20, 0.0), (80, 1.0), (50, 0.5)):
        settings: dict[str, Any] = {"num_inference_steps": 100, "output_type": "latent", "generator": generator(0)}
        z = pipeline(64, covariates={"age": age}, **settings).images
        assert z.mean().item() == pytest.approx(mean, abs=0.02)
        assert z.std().item() == pytest.approx(0.5, abs=0.02)


def test_it_generates_with_flow_matching() -> None:
    parts = of_images().components | {"scheduler": FlowMatchEulerDiscreteScheduler()}
    pipeline = quiet(LatentDiffusionPipeline(**parts))
    images = pipeline(2, label="ill", guidance_scale=2.0, num_inference_steps=3, generator=generator(0)).images
    assert images.shape == (2, 8, 8, 2) and np.isfinite(images).all()
