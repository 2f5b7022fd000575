"""Anomaly detection: the contracts, and a toy distribution for which everything is known in closed form.

The toy images are a mixture of two Gaussians: N(m_y, s²) in each pixel, with one mean m_y where they are healthy and
another where they are diseased. The networks are exact: E[x_0 | x_t], E[x_0 | x_t, y] and log p(y | x_t).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from contracts.conventions_contract import GuidanceContract, ImageListContract, StateContract
from contracts.pipeline_contract import DenoisingContract, PipelineContract, generator, seeded
from contracts.published_contract import PublishedContract
from diffusers import DDIMScheduler, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from helpers.small_segmentation import NETWORK, random_images
from torch import Tensor

from meddiffusers import AnomalyDetectionPipeline, NoisyClassifier, PatchUNet2DModel, ReversibleDDIMScheduler
from meddiffusers.pipelines.anomaly_detection_pipeline import CONTRAST_TIMES
from meddiffusers.pipelines.meddiffusers_anomaly_maps_v1 import otsu_threshold, slice_scores, smooth

LABELS = ["healthy", "diseased"]


def small(labels: bool = True, classifier: bool = True, **config: Any) -> AnomalyDetectionPipeline:
    with seeded():
        unet = PatchUNet2DModel(
            in_channels=4, sample_size=8, network=NETWORK, id2label=LABELS if labels else None
        ).eval()
        guide = NoisyClassifier(4, LABELS, sample_size=8, block_out_channels=(4, 8), norm_num_groups=2).eval()
    pipeline = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler(), guide if classifier else None, **config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestAnomalyDetectionPipeline(
    PipelineContract, DenoisingContract, StateContract, GuidanceContract, ImageListContract, PublishedContract
):
    """With sampled noise; the DDIM inversion does not depend on a generator."""

    scale = 1e4

    def build(self) -> Any:
        pipeline = small(labels=False)
        pipeline.set_progress_bar_config(disable=False)
        return pipeline

    def arguments(self, batch_size: int) -> dict[str, Any]:
        image = random_images(1, 4, 8, 8).expand(batch_size, -1, -1, -1)
        return {
            "image": image,
            "num_inference_steps": 2,
            "encoding": "noise",
            "guidance_scale": 1e4,
        }

    def test_output_types_agree(self) -> None:
        pipeline, call = small(labels=False), self.arguments(2)
        array, tensor, pil = (
            pipeline(**call, generator=generator(0), output_type=kind, threshold=0.3) for kind in ("np", "pt", "pil")
        )
        assert array.counterfactual.shape == (2, 8, 8, 4) and array.anomaly_map.shape == (2, 8, 8)
        np.testing.assert_array_equal(tensor.counterfactual.movedim(1, -1).numpy(), array.counterfactual)
        for name in ("anomaly_map", "mask", "score"):
            np.testing.assert_array_equal(getattr(tensor, name).numpy(), getattr(array, name))
        for i, images in enumerate(pil.counterfactual):
            grey = np.stack([np.asarray(image) for image in images], axis=-1)
            np.testing.assert_allclose(grey, 255 * array.counterfactual[i], atol=0.501)
            assert isinstance(pil.mask[i], PIL.Image.Image)
            np.testing.assert_array_equal(np.asarray(pil.mask[i]), 255 * array.mask[i])
        np.testing.assert_array_equal(array.mask, array.anomaly_map > 0.3)
        assert array.threshold == 0.3


MEANS = torch.full((2, 1, 16, 16), 0.4)  # healthy and diseased
MEANS[1, :, 4:9, 6:12] = 0.8
MEANS = 2 * MEANS - 1
LESION = (MEANS[1] != MEANS[0])[0].numpy()
STD = 0.05


class KnownUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The exact ε of the mixture, or of one component."""

    @register_to_config
    def __init__(self, in_channels: int = 1, sample_size: int = 16) -> None:
        super().__init__()
        self.id2label, self.stride = dict(enumerate(LABELS)), 1
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, sample: Tensor, timestep: Any, class_labels: Tensor | None = None) -> SimpleNamespace:
        a, sigma = scales(timestep)
        known = [mean + a * STD**2 / (a**2 * STD**2 + sigma**2) * (sample - a * mean) for mean in MEANS]
        weights = log_odds(sample, timestep).softmax(dim=1)
        if class_labels is not None:
            weights = torch.eye(2)[class_labels]
        clean = sum(weight[:, None, None, None] * one for weight, one in zip(weights.T, known, strict=True))
        return SimpleNamespace(sample=(sample - a * clean) / sigma)


class KnownClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """p(y | x_t) of the mixture."""

    @register_to_config
    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.id2label = dict(enumerate(LABELS))
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, sample: Tensor, timestep: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=log_odds(sample, timestep))

    gradient = NoisyClassifier.gradient


def scales(timestep: Any) -> tuple[float, float]:
    signal = ReversibleDDIMScheduler().alphas_cumprod[int(timestep)].item()
    return signal**0.5, (1 - signal) ** 0.5


def log_odds(sample: Tensor, timestep: Any) -> Tensor:
    a, sigma = scales(timestep)
    variance = a**2 * STD**2 + sigma**2
    return torch.stack([-(sample - a * mean).square().flatten(1).sum(dim=1) / (2 * variance) for mean in MEANS], dim=1)


def exact_pipeline(classifier: bool = True) -> AnomalyDetectionPipeline:
    guide = KnownClassifier() if classifier else None
    pipeline = AnomalyDetectionPipeline(KnownUNet(), ReversibleDDIMScheduler(), guide, modalities=["grey"])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_images(label: int, count: int = 4) -> Tensor:
    return (MEANS[label] + STD * torch.randn(count, 1, 16, 16, generator=generator(label)) + 1) / 2


ONE = 256**2 / 16**2  # the scale at which the classifier's gradient counts once
CALL: dict[str, Any] = {
    "num_inference_steps": 100,
    "num_inversion_iterations": 3,
    "output_type": "pt",
    "map_from": "residual",
}


class TestExactNetworks:
    @pytest.mark.slow
    def test_classifier_and_classifier_free_guidance_agree(self) -> None:
        one = exact_pipeline()(sample_images(1), method="classifier", guidance_scale=ONE, **CALL)
        other = exact_pipeline()(sample_images(1), method="classifier_free", guidance_scale=1, **CALL)
        torch.testing.assert_close(one.counterfactual, other.counterfactual, rtol=0, atol=1e-3)

    @pytest.mark.parametrize("scale", [ONE, 2 * ONE])
    @pytest.mark.slow
    def test_only_the_lesion_is_removed(self, scale: float) -> None:
        image = sample_images(1)
        output = exact_pipeline()(image, method="classifier", guidance_scale=scale, **CALL)
        expected = image - (MEANS[1] - MEANS[0]) / 2
        torch.testing.assert_close(output.counterfactual, expected, rtol=0, atol=0.02)
        np.testing.assert_array_equal(output.mask, np.broadcast_to(LESION, (4, 16, 16)))
        assert 0 < output.threshold < 0.2

    @pytest.mark.slow
    def test_healthy_images_are_reconstructed(self) -> None:
        both = torch.cat([sample_images(0), sample_images(1)])
        output = exact_pipeline()(both, method="classifier", guidance_scale=ONE, **CALL)
        torch.testing.assert_close(output.counterfactual[:4], both[:4], rtol=0, atol=5e-3)
        assert output.score[:4].max() < 0.02 < 0.15 < output.score[4:].min()

    def test_without_guidance_every_image_is_reconstructed(self) -> None:
        both = torch.cat([sample_images(0), sample_images(1)])
        output = exact_pipeline()(both, method="none", **CALL)
        torch.testing.assert_close(output.counterfactual, both, rtol=0, atol=2e-3)

    @pytest.mark.slow
    def test_more_inversion_iterations_are_more_exact(self) -> None:
        errors = []
        for iterations in (1, 2, 4):
            settings = {**CALL, "num_inference_steps": 50, "num_inversion_iterations": iterations}
            output = exact_pipeline()(sample_images(1), method="none", **settings)
            errors.append(output.anomaly_map.mean().item())
        assert errors[0] > 2 * errors[1] > 4 * errors[2]

    @pytest.mark.parametrize("label", [0, 1])
    def test_the_label_contrast_is_the_difference_of_the_means(self, label: int) -> None:
        """E[x_0 | x_t, y] = m_y + k (x_t − a m_y): the difference is that of the means times 1 − a k, whatever x_t."""
        pipeline = exact_pipeline()
        settings = {"map_from": "label_contrast", "smoothing": 0, "num_inference_steps": 1, "output_type": "pt"}
        output = pipeline(sample_images(label), **settings)
        factors = []
        for time in CONTRAST_TIMES:
            a, sigma = scales(round(1000 * time) - 1)
            factors.append(sigma**2 / (a**2 * STD**2 + sigma**2))
        expected = (MEANS[1] - MEANS[0])[0].abs() / 2 * sum(factors) / len(CONTRAST_TIMES)
        torch.testing.assert_close(output.anomaly_map, expected.expand(4, -1, -1), rtol=0, atol=1e-4)
        np.testing.assert_array_equal(output.mask[0], LESION)

    def test_the_scale_means_the_same_for_images_of_every_size(self) -> None:
        """With four times the pixels and the same evidence, the gradient in each pixel is a quarter."""
        pipeline = exact_pipeline()
        x = 2 * sample_images(1) - 1
        pipeline.scheduler.set_timesteps(10)
        pipeline.classifier.gradient = lambda x, timestep, label: 1 / x[0].numel() * torch.ones_like(x)
        pipeline._guidance_scale = 7.0
        small_, large = (
            pipeline._guided_predictor("classifier", "healthy", None)(one, 500) - pipeline.predict(one, 500)
            for one in (x, torch.randn(4, 1, 16, 16, generator=generator(2)))
        )
        torch.testing.assert_close(small_, large, rtol=0, atol=1e-5)
        sigma = scales(500)[1]
        assert small_.mean().item() == pytest.approx(-sigma * 7.0 / 256**2, rel=1e-2)


@pytest.mark.slow
def test_a_missing_modality_does_not_count() -> None:
    pipeline, image = small(), random_images(2, 4, 8, 8)
    given = {"t1": image[:, 0], "flair": image[:, 3]}
    output = pipeline(given, num_inference_steps=2, output_type="pt", map_from="residual")
    expected = (torch.stack([image[:, 0], image[:, 3]], dim=1) - output.counterfactual[:, [0, 3]]).abs()
    torch.testing.assert_close(output.anomaly_map, expected.mean(dim=1))
    missing = {**given, "t2": torch.zeros(2, 8, 8)}
    one, other = (pipeline(each, num_inference_steps=1, output_type="pt").anomaly_map for each in (given, missing))
    torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_batch_size() -> None:
    call = {"image": random_images(3, 4, 8, 8), "num_inference_steps": 2, "method": "classifier", "guidance_scale": 1e4}
    for map_from in ("residual", "label_contrast"):
        given = [{"batch_size": size, "generator": [generator(seed) for seed in range(3)]} for size in (1, 3)]
        one, other = (small()(**call, map_from=map_from, **each).anomaly_map for each in given)
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_without_a_generator_the_label_contrast_is_deterministic() -> None:
    call = {"image": random_images(2, 4, 8, 8), "num_inference_steps": 1, "output_type": "pt"}
    one, again, other = (small()(**call, generator=each).anomaly_map for each in (None, None, generator(1)))
    assert torch.equal(one, again) and not torch.allclose(one, other)
    torch.testing.assert_close(small()(**call, batch_size=1).anomaly_map, one)
    turned = small()(**{**call, "image": call["image"].flip(0)}).anomaly_map
    torch.testing.assert_close(turned.flip(0), one)


def test_a_label_contrast_requires_two_labels() -> None:
    with seeded():
        unet = PatchUNet2DModel(in_channels=4, sample_size=8, network=NETWORK, id2label=["healthy"]).eval()
    pipeline = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler())
    assert pipeline._default_map() == "residual"
    with pytest.raises(ValueError, match="expected one of two or more labels of the unet, which are: healthy"):
        pipeline(random_images(), map_from="label_contrast")


def test_smoothing_is_a_gaussian() -> None:
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    steps = torch.arange(41.0) - 20
    expected = torch.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 2.0**2)) / (2 * torch.pi * 2.0**2)
    torch.testing.assert_close(smooth(point, 2.0 / 41)[0], expected, rtol=0, atol=1e-4)
    assert smooth(point, 0) is point


def test_the_components_choose_the_method() -> None:
    assert (small()._default_method(), small()._default_map()) == ("classifier_free", "label_contrast")
    assert (small(labels=False)._default_method(), small(labels=False)._default_map()) == ("classifier", "residual")
    assert small(labels=False, classifier=False)._default_method() == "none"


@pytest.mark.slow
def test_a_plain_unet_serves() -> None:
    with seeded():
        unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=8, **NETWORK).eval()  # with a variance, unused
    pipeline = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler())
    output = pipeline(random_images(1, 4, 8, 8), num_inference_steps=2)
    assert output.anomaly_map.shape == (1, 8, 8) and np.isfinite(output.anomaly_map).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"method": "magic"}, "Got method='magic', encoding='inversion' and output_type='np'; expected one of class"),
        ({"encoding": "magic"}, "encoding='magic'"),
        ({"output_type": "film"}, "output_type='film'"),
        ({"target": "cured"}, "target='cured'; expected one of healthy, diseased"),
        ({"num_inversion_iterations": 0}, "num_inversion_iterations=0 and batch_size=32; expected at least 1 of each"),
        ({"batch_size": 0}, "num_inversion_iterations=1 and batch_size=0"),
        ({"map_from": "magic"}, "map_from='magic'; expected one of residual, label_contrast"),
        ({"num_noise_samples": 0}, "num_noise_samples=0 and smoothing=None; expected at least 1 and 0"),
        ({"smoothing": -1.0}, "num_noise_samples=4 and smoothing=-1.0"),
        ({"strength": 0.0}, "strength=0.0; expected more than 0 and at most 1"),
        ({"num_inference_steps": 501}, "num_inference_steps=501; expected 1 to 500"),
        ({"encoding": "noise", "generator": [generator(0)]}, "Got 1 generators for 2 images. Give one for each"),
        ({"image": torch.full((1, 4, 8, 8), torch.nan)}, "NaN"),
        ({"image": "no/such/folder"}, "pixel spacing of this model is unknown"),
    ],
)
def test_bad_calls_are_refused(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(**{"image": random_images(), **call})


def test_a_method_that_the_components_do_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="method='classifier' but this pipeline has no classifier"):
        small(classifier=False)(random_images(), method="classifier")
    with pytest.raises(ValueError, match=r"target='healthy'; expected one of \(none: it has no labels\)"):
        small(labels=False)(random_images(), method="classifier_free")
    with pytest.raises(
        ValueError, match=r"map_from='label_contrast' and target='healthy'; .* are: \(none\). Use such a target"
    ):
        small(labels=False)(random_images(), map_from="label_contrast")


def test_parts_that_do_not_fit_are_refused() -> None:
    parts = small().components
    pipeline = AnomalyDetectionPipeline(**{**parts, "scheduler": DDIMScheduler()})
    with pytest.raises(
        ValueError, match=r"a DDIMScheduler, .* steps have no inverses.* = ReversibleDDIMScheduler\.from"
    ):
        pipeline(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"The unet has 4 channels; got 1 modalities \(flair\)"):
        AnomalyDetectionPipeline(**parts, modalities=["flair"])


class TestOtsu:
    def test_it_separates_two_clusters(self) -> None:
        rng = generator(0)
        clusters = torch.cat(
            [0.1 + 0.02 * torch.randn(900, generator=rng), 0.7 + 0.05 * torch.randn(100, generator=rng)]
        )
        assert 0.15 < otsu_threshold(clusters) < 0.55

    def test_it_minimises_the_variance_within(self) -> None:
        values = torch.rand(500, generator=generator(0)) ** 3
        within = [
            sum(part.var(correction=0) * len(part) for part in (values[values <= cut], values[values > cut])).item()
            for cut in torch.linspace(0.02, 0.98, 97)
        ]
        threshold = otsu_threshold(values)
        classes = values[values <= threshold], values[values > threshold]
        ours = sum(part.var(correction=0) * len(part) for part in classes).item()
        assert ours <= min(within) * 1.001

    @pytest.mark.parametrize(("values", "expected"), [([], 0.0), ([0.3, 0.3], 0.3)])
    def test_without_two_classes(self, values: list[float], expected: float) -> None:
        assert otsu_threshold(torch.tensor(values)) == pytest.approx(expected)


@pytest.mark.slow
def test_a_network_that_requires_a_label_gets_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    with seeded():
        unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=4, num_class_embeds=2, **NETWORK).eval()
    pipeline = small()
    pipeline = AnomalyDetectionPipeline(unet, pipeline.scheduler, pipeline.classifier)
    labels: list[int] = []
    forward = unet.forward

    def record(sample: Tensor, timestep: Any, class_labels: Tensor) -> Any:
        labels.extend(class_labels.tolist())
        return forward(sample, timestep, class_labels)

    monkeypatch.setattr(unet, "forward", record)
    for method, target in (("none", "healthy"), ("classifier", "diseased")):
        labels.clear()
        pipeline(random_images(1, 4, 8, 8), method=method, target=target, num_inference_steps=2)
        assert labels == [LABELS.index(target)] * 4  # two steps to the noise and two back


def test_a_score_compares_the_highest_values_with_the_foreground() -> None:
    maps, foreground = torch.full((2, 20, 20), 0.2), torch.zeros(2, 20, 20, dtype=torch.bool)
    foreground[:, :10] = True
    maps[1, :2, :2] = 1.0  # a hundredth of the pixels
    torch.testing.assert_close(slice_scores(maps, foreground), torch.tensor([0.0, 1.0 - (0.2 + 4 * 0.8 / 200)]))
