"""Image generation: the contracts, guidance against its formula, and samples from known Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.conventions_contract import GuidanceContract, ScheduleContract, StateContract
from contracts.pipeline_contract import DenoisingContract, PipelineContract, generator, seeded
from contracts.published_contract import PublishedContract
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from helpers.small_segmentation import NETWORK

from meddiffusers import ImageDiffusionPipeline, PatchUNet2DModel

SCHEDULE: dict[str, Any] = {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
MODALITIES = ("t1", "t1ce", "t2", "flair")


def small(labels: bool = True, **config: Any) -> ImageDiffusionPipeline:
    with seeded():
        unet = PatchUNet2DModel(
            in_channels=4, sample_size=8, network=NETWORK, id2label=["healthy", "diseased"] if labels else None
        ).eval()
    pipeline = ImageDiffusionPipeline(unet, DDIMScheduler(**SCHEDULE), modalities=MODALITIES, **config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestImageDiffusionPipeline(
    PipelineContract, DenoisingContract, StateContract, GuidanceContract, ScheduleContract, PublishedContract
):
    def build(self) -> Any:
        pipeline = small()
        pipeline.set_progress_bar_config(disable=False)
        return pipeline

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {"batch_size": batch_size, "label": "healthy", "guidance_scale": 2.0, "num_inference_steps": 2}

    def test_output_types_agree(self) -> None:
        pipeline = small(spacing=2.0)
        array, tensor, pil, scans = (
            pipeline(3, num_inference_steps=2, generator=generator(0), output_type=kind).images
            for kind in ("np", "pt", "pil", "scan")
        )
        assert array.shape == (3, 8, 8, 4) and array.dtype == np.float32
        np.testing.assert_array_equal(tensor.movedim(1, -1).numpy(), array)
        for expected, images, scan in zip(array, pil, scans, strict=True):
            for channel, image in enumerate(images):
                assert image.mode == "I;16"
                np.testing.assert_allclose(np.asarray(image) / 65535, expected[..., channel], atol=1e-5)
            assert scan.modality == MODALITIES and scan.spacing == pytest.approx((2, 2, 2))
            np.testing.assert_array_equal(scan.array[..., 0], expected.transpose(2, 1, 0))
            corner = scan.affine @ [0, 0, 0, 1]
            assert corner.tolist() == [7, 7, 0, 1]  # right and anterior


def test_classifier_free_guidance_follows_its_formula() -> None:
    pipeline, x = small(), torch.randn(3, 4, 8, 8)
    labels = torch.tensor([0, 1, 0])
    with torch.no_grad():
        uncond, cond = pipeline.unet(x, 500).sample, pipeline.unet(x, 500, labels).sample
        for scale in (0.0, 1.0, 3.0):
            expected = uncond + scale * (cond - uncond)
            torch.testing.assert_close(pipeline.predict(x, 500, labels, scale), expected)
        torch.testing.assert_close(pipeline.predict(x, 500, None, 1.0), uncond)


def test_labels_are_given_by_name() -> None:
    pipeline = small()
    noise = torch.randn(2, 4, 8, 8)
    one = pipeline(2, label="diseased", latents=noise, num_inference_steps=2).images
    each = pipeline(2, label=["healthy", "diseased"], latents=noise, num_inference_steps=2).images
    np.testing.assert_array_equal(one[1], each[1])
    assert not np.allclose(one[0], each[0], atol=1e-3)


MEAN, STD = torch.tensor([-0.3, 0.4, 0.0, 0.1]), torch.tensor([0.2, 0.1, 0.3, 0.15])


class ExactUNet(torch.nn.Module):
    """The exact v for images of independent N(m, s²) pixels."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = MEAN.view(1, 4, 1, 1), STD.view(1, 4, 1, 1)
        self.config = {"in_channels": 4, "sample_size": 64}

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> Any:
        signal = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)[timestep]
        a, sigma = signal.sqrt(), (1 - signal).sqrt()
        clean = self.mean + a * self.std**2 * (x - a * self.mean) / (a**2 * self.std**2 + sigma**2)
        noise = (x - a * clean) / sigma
        return type("Output", (), {"sample": a * noise - sigma * clean})


@pytest.mark.slow
def test_images_follow_the_distribution() -> None:
    """64·64·16 pixels of each channel; the sampler's own error with 250 steps is up to 0.06 of the deviation."""
    pipeline = small(labels=False)
    pipeline.unet = ExactUNet()
    images = pipeline(16, num_inference_steps=250, generator=generator(0), output_type="pt").images
    mean, std = 2 * images.mean(dim=(0, 2, 3)) - 1, 2 * images.std(dim=(0, 2, 3))
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=0.005)
    torch.testing.assert_close(std, STD, rtol=0.07, atol=0)


def test_from_a_pipeline_of_diffusers() -> None:
    with seeded():
        unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=8, **NETWORK).eval()
    source = DDPMPipeline(unet, DDPMScheduler(variance_type="learned_range"))
    pipeline = ImageDiffusionPipeline.from_pipe(source)
    assert pipeline.unet is unet
    assert pipeline(2, num_inference_steps=2, generator=generator(0)).images.shape == (2, 8, 8, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0; expected at least 1"),
        ({"output_type": "jpeg"}, "output_type='jpeg' is unknown. Expected one of np, pt, pil, scan"),
        ({"label": "ill"}, "Got the labels 'ill' for 1 images; expected one of healthy, diseased for each"),
        ({"batch_size": 2, "label": ["healthy"]}, "Got the labels 'healthy' for 2 images"),
        ({"guidance_scale": 2.0}, "guidance_scale=2.0 requires a label"),
        ({"latents": torch.zeros(1, 3, 8, 8)}, r"Got latents of shape \(1, 3, 8, 8\); expected noise of shape"),
        ({"batch_size": 2, "generator": [torch.Generator()]}, "Got 1 generators for 2 images"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(**arguments)


def test_another_number_of_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The unet has 4 channels; got 1 modalities \(t1\)"):
        ImageDiffusionPipeline(small().unet, DDIMScheduler(), modalities=["t1"])
    pipeline = small()
    pipeline.unet = PatchUNet2DModel(in_channels=2, sample_size=8, network=NETWORK)
    with pytest.raises(ValueError, match="The unet has 2 channels; got 4 modalities"):
        pipeline()
