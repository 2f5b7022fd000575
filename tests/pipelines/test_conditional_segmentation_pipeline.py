from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from contracts.conventions_contract import ImageListContract, StateContract
from contracts.pipeline_contract import DenoisingContract, PipelineContract, generator
from contracts.published_contract import PublishedContract
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from helpers.small_attribute_vae import calibrated
from helpers.small_segmentation import LABELS, SCHEDULE, joint_unet, pipeline_of, random_images, small_unet
from torch import Tensor

from meddiffusers import ConditionalSegmentationPipeline, SegmentationUNet
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipelineOutput

LEARNED: dict[str, Any] = {**SCHEDULE, "variance_type": "learned_range"}


class Small(PipelineContract, DenoisingContract, StateContract, ImageListContract):
    """What the contract calls images are the probabilities, and the variance as one more channel."""

    unet: Callable[[], Any] = staticmethod(small_unet)

    def build(self) -> Any:
        pipeline = pipeline_of(self.unet())
        pipeline.set_progress_bar_config(disable=False)
        return pipeline

    def arguments(self, batch_size: int) -> dict[str, Any]:
        image = random_images(1, 4, 8, 8).repeat(batch_size, 1, 1, 1)
        return {"image": image, "num_inference_steps": 2, "ensemble_size": 2}

    def images(self, pipeline: Any, batch_size: int = 2, **kwargs: Any) -> Any:
        call = {**self.arguments(batch_size), "generator": generator(0), **kwargs}
        output = pipeline(**call)
        if isinstance(output, tuple):
            output = ConditionalSegmentationPipelineOutput(*output)
        if kwargs.get("output_type") == "latent":
            return output.mask
        maps = [output.probability, output.uncertainty["variance"][:, None]]
        return torch.cat(maps, 1) if isinstance(maps[0], Tensor) else np.moveaxis(np.concatenate(maps, 1), 1, -1)

    def test_output_types_agree(self) -> None:
        pipeline = self.build()
        outputs = [pipeline(random_images(), generator=generator(0), output_type=kind) for kind in ("np", "pt", "pil")]
        for output in outputs:
            np.testing.assert_array_equal(np.stack([np.asarray(mask) for mask in output.mask]), outputs[0].mask)
            samples = [np.stack([np.asarray(member) for member in image]) for image in output.samples]
            np.testing.assert_array_equal(np.stack(samples), outputs[0].samples)
            for own, expected in zip(maps(output), maps(outputs[0]), strict=True):
                np.testing.assert_array_equal(np.asarray(own), expected)
        assert isinstance(outputs[1].mask, Tensor) and isinstance(outputs[1].probability, Tensor)
        assert {mask.mode for mask in outputs[2].mask} == {"P"}


class TestConditionalSegmentationPipeline(Small, PublishedContract):
    pass


class TestOneUNet2DModel(Small):
    """The network of Wolleb et al.: it is diffusers' own class, so no part of it is published."""

    unet = staticmethod(joint_unet)


def maps(output: Any) -> list[Any]:
    return [output.probability, output.uncertainty["variance"], output.uncertainty["entropy"]]


def call(pipeline: ConditionalSegmentationPipeline, image: Any = None, **kwargs: Any) -> Any:
    settings = {"num_inference_steps": 2, "ensemble_size": 2, "generator": generator(0), **kwargs}
    return pipeline(random_images() if image is None else image, **settings)


class TestImages:
    """All kinds of input that hold the same images are the same to the pipeline."""

    NAMES = ("t1", "t1ce", "t2", "flair")
    KINDS: dict[str, Callable[[Tensor], Any]] = {
        "tensor": lambda x: x,
        "float64 tensor": lambda x: x.double(),
        "uint8 tensor": lambda x: (255 * x).round().to(torch.uint8),
        "uint16 tensor": lambda x: (65535 * x).round().to(torch.uint16),
        "array": lambda x: x.movedim(1, -1).numpy(),
        "big-endian array": lambda x: x.movedim(1, -1).numpy().astype(">f4"),
        "uint16 array": lambda x: (65535 * x.movedim(1, -1)).round().numpy().astype(np.uint16),
        "{modality: tensor}": lambda x: dict(zip(TestImages.NAMES, x.unbind(1), strict=True)),
        "in another order": lambda x: {name: x[:, TestImages.NAMES.index(name)] for name in sorted(TestImages.NAMES)},
        "{modality: array}": lambda x: {name: x[:, i].numpy() for i, name in enumerate(TestImages.NAMES)},
        "types mixed": lambda x: {
            "t1": (255 * x[:, 0]).round().to(torch.uint8),
            "t2": x[:, 2].double(),
            "t1ce": (65535 * x[:, 1]).round().numpy().astype(np.uint16),
            "flair": x[:, 3].numpy(),
        },
    }

    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds_of_input(self, kind: str) -> None:
        pixels = pipeline_of().preprocess(self.KINDS[kind](random_images()))
        assert pixels.dtype == torch.float32
        torch.testing.assert_close(pixels, random_images(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("form", [lambda x: x, Tensor.numpy, lambda x: PIL.Image.fromarray(x.numpy())])
    def test_one_image(self, form: Callable[[Tensor], Any]) -> None:
        image = (255 * random_images(4, 8, 8)).round().to(torch.uint8)
        given = {name: form(image[i]) for i, name in enumerate(self.NAMES)}
        for kind in (image, image.movedim(0, -1).numpy(), given):
            assert torch.equal(pipeline_of().preprocess(kind), image[None] / 255)

    @pytest.mark.parametrize("missing", NAMES)
    def test_a_missing_modality_is_zero(self, missing: str) -> None:
        given = {name: random_images()[:, i] for i, name in enumerate(self.NAMES) if name != missing}
        zeroed = random_images()
        zeroed[:, self.NAMES.index(missing)] = 0
        np.testing.assert_array_equal(call(pipeline_of(), given).probability, call(pipeline_of(), zeroed).probability)

    def test_one_modality(self) -> None:
        image = random_images(2, 1, 8, 8)
        with pytest.raises(ValueError, match=r"takes 2 channels .*; 4 modalities \(t1, t1ce, t2, flair\) and 2 labels"):
            pipeline_of(small_unet(image_channels=1))
        pipeline = pipeline_of(small_unet(image_channels=1), modalities=["flair"])
        for given in (image, image[:, 0].numpy(), image.movedim(1, -1).numpy(), {"flair": image[:, 0]}):
            assert torch.equal(pipeline.preprocess(given), image)
        for given in (image[0], image[0, 0].numpy(), PIL.Image.fromarray(image[0, 0].numpy())):
            assert torch.equal(pipeline.preprocess(given), image[:1])

    def test_rounding_just_beyond_the_range_is_clipped(self) -> None:
        pixels = pipeline_of().preprocess(torch.tensor([-5e-4, 1 + 5e-4]).repeat(4, 8, 4))
        assert (pixels.min(), pixels.max()) == (0, 1)

    BAD: list[tuple[Any, type[Exception], str]] = [
        (
            {"t1": torch.zeros(8, 8), "dwi": torch.zeros(8, 8)},
            ValueError,
            r"modalities t1, dwi; .* t1, t1ce, t2, flair\.",
        ),
        ({}, ValueError, r"modalities \(none\); expected one or more of t1, t1ce, t2, flair"),
        (
            {"t1": torch.zeros(8, 8), "t2": torch.zeros(8, 6)},
            ValueError,
            r"\(1, 8, 6\)\}; expected one shape for all",
        ),
        ({"t1": torch.zeros(1, 8, 8), "t2": torch.zeros(2, 8, 8)}, ValueError, r"\(2, 8, 8\)\}; expected one shape"),
        ({"t1": torch.zeros(1, 1, 8, 8)}, ValueError, r"'t1': \(1, 1, 8, 8\)\}; .* \(H, W\) or \(B, H, W\)"),
        (
            {"t1": torch.full((8, 8), torch.nan)},
            ValueError,
            r"t1 holds NaN or infinite values\. Repair or remove them",
        ),
        (torch.full((4, 8, 8), torch.inf), ValueError, r"the image holds NaN or infinite values"),
        (
            {"t2": torch.full((8, 8), 255.0)},
            ValueError,
            r"t2 has values from 255 to 255; expected \[0, 1\]\. Map the 1st",
        ),
        (torch.full((4, 8, 8), -0.1), ValueError, r"the image has values from -0\.1 to -0\.1; .* or give a Scan"),
        (
            torch.zeros(4, 8, 8, dtype=torch.int32),
            ValueError,
            r"type torch\.int32, .* Convert it to uint8, uint16 or to",
        ),
        (torch.zeros(4, 9, 8), ValueError, r"shape \(1, 4, 9, 8\); .* divisible by 2\. Crop, pad or resize them"),
        ({"t1": torch.zeros(8, 7)}, ValueError, r"shape \(1, 4, 8, 7\); .* divisible by 2"),
        (torch.zeros(0, 4, 8, 8), ValueError, r"shape \(0, 4, 8, 8\); expected at least one"),
        (torch.zeros(3, 8, 8), ValueError, r"a tensor of shape \(3, 8, 8\); expected 4 channels: a tensor \(C, H, W\)"),
        (torch.zeros(8, 8), ValueError, r"a tensor of shape \(8, 8\); expected 4 channels"),
        (np.zeros((4, 8, 8)), ValueError, r"an array of shape \(4, 8, 8\); .* an array \(H, W, C\) or \(B, H, W, C\)"),
        (PIL.Image.new("L", (6, 8)), ValueError, r"an array of shape \(8, 6\); .* or \{modality: image\}"),
        (
            [5],
            TypeError,
            r"Got a int; expected a tensor, an array, \{modality: image\}, or scans",
        ),
        ([torch.zeros(4, 8, 8), torch.zeros(4, 8, 16)], ValueError, r"of the sizes \(8, 8\), \(8, 16\); expected one"),
        ([], ValueError, r"a list of images of the sizes \(none\)"),
        ({"t1": None}, TypeError, r"Got a NoneType"),
        (None, TypeError, r"Got a NoneType"),
    ]

    @pytest.mark.parametrize(("image", "error", "message"), BAD)
    def test_bad_images_are_refused(self, image: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            pipeline_of()(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble_size": 0}, r"ensemble_size=0 and batch_size=32; expected at least 1 of each"),
        ({"batch_size": 0}, r"ensemble_size=2 and batch_size=0"),
        ({"threshold": 1.0}, r"threshold=1\.0; expected a probability, at least 0 and less than 1"),
        ({"threshold": -0.1}, r"threshold=-0\.1"),
        ({"output_type": "film"}, r"output_type='film' is unknown\. Expected one of np, pt, pil"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"inputs has noise; there is only latents"),
        ({"generator": [generator(0)]}, r"Got 1 generators for 2 images\. Give one for each image"),
    ],
)
def test_bad_calls_are_refused_before_any_work(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConditionalSegmentationPipeline, "encode_image", None)
    with pytest.raises(ValueError, match=message):
        call(pipeline_of(), **settings)


class TestConfiguration:
    @pytest.mark.parametrize("ids", [{1: "a", 2: "b"}, {0: "a", 2: "b"}, {0: "a"}, {"a": "b", "c": "d"}])
    def test_labels_are_numbered_from_the_background(self, ids: dict[Any, str]) -> None:
        with pytest.raises(
            ValueError, match=rf"has the ids {', '.join(map(str, ids))}; expected 0 \(the background\), 1"
        ):
            ConditionalSegmentationPipeline(small_unet(), DDIMScheduler(**SCHEDULE), id2label=ids)

    def test_labels_and_channels_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r"takes 5 channels .* and 4 labels make 4 \+ 4\. Give the modalities and"):
            pipeline_of(joint_unet(), labels=LABELS)

    @pytest.mark.parametrize(
        ("settings", "ends", "message"),
        [
            ({"prediction_type": "epsilon"}, (-1, 1), r"predicts x_0 of masks in \(-1, 1\); got .*'epsilon'"),
            ({}, (0, 1), r"predicts x_0 of masks in \(-1, 1\); got .*mask_range=\(0\.0, 1\.0\)"),
            ({"beta_schedule": "scaled_linear"}, (-1, 1), "got a scheduler with other betas. Create it from the conf"),
            ({"num_train_timesteps": 100}, (-1, 1), "got a scheduler with other betas"),
        ],
    )
    def test_an_image_encoder_requires_its_noise_schedule(self, settings: Any, ends: Any, message: str) -> None:
        scheduler = DDIMScheduler(**{**SCHEDULE, **settings})
        with pytest.raises(ValueError, match=message):
            pipeline_of(scheduler=scheduler, mask_range=ends)
        assert pipeline_of(small_unet(image_encoder_config=None), scheduler, mask_range=ends).scheduler is scheduler

    def test_labels_are_in_the_order_of_their_ids(self) -> None:
        labels = {11 - index: str(11 - index) for index in range(12)}  # as JSON sorts them: 0, 1, 10, 11, 2
        pipeline = ConditionalSegmentationPipeline(
            small_unet(mask_channels=12, feature_channels=12), DDIMScheduler(**SCHEDULE), id2label=labels
        )
        assert pipeline.id2label == {index: str(index) for index in range(12)}
        assert list(pipeline.id2label) == list(range(12)) and pipeline.mask_channels == 12

    def test_it_is_saved_and_loaded_without_a_warning(self, tmp_path: Any, caplog: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
        pipeline = pipeline_of(
            small_unet(mask_channels=4, image_encoder_config=None), labels=LABELS, spacing=1, mask_range=(0, 1)
        )
        pipeline.save_pretrained(tmp_path)
        loaded = ConditionalSegmentationPipeline.from_pretrained(tmp_path)
        assert loaded.id2label == dict(enumerate(LABELS))
        assert loaded.modalities == ("t1", "t1ce", "t2", "flair")
        assert loaded.config["spacing"] == 1 and loaded.mask_range == (0, 1)
        assert "annotation" not in caplog.text and "Expected types" not in caplog.text


class TestFromPipe:
    def test_the_configuration_is_kept(self) -> None:
        pipeline = pipeline_of(small_unet(mask_channels=4), labels=LABELS, spacing=2.0)
        again = ConditionalSegmentationPipeline.from_pipe(pipeline)
        assert again.unet is pipeline.unet and again.id2label == pipeline.id2label and again.config["spacing"] == 2
        again = ConditionalSegmentationPipeline.from_pipe(pipeline, scheduler=DDPMScheduler(**SCHEDULE), spacing=None)
        assert isinstance(again.scheduler, DDPMScheduler) and again.config["spacing"] is None

    def test_a_pipeline_of_diffusers(self) -> None:
        source = DDPMPipeline(joint_unet(), DDPMScheduler())
        assert ConditionalSegmentationPipeline.from_pipe(source).unet is source.unet

    def test_a_pipeline_without_such_parts_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"expected .*'unet'"):
            ConditionalSegmentationPipeline.from_pipe(calibrated())


def giving(masks: Tensor, labels: Sequence[str] = LABELS[:2], **config: Any) -> ConditionalSegmentationPipeline:
    """A pipeline whose members, (B, M, K, H, W), are known: one step of DDIM gives what the network predicts."""
    scheduler = DDIMScheduler(**{**SCHEDULE, "prediction_type": "sample"})
    unet = small_unet(mask_channels=masks.shape[2], image_encoder_config=None)
    pipeline = pipeline_of(unet, scheduler, labels, **config)
    pipeline.predict = lambda latents, timestep, features: masks.flatten(0, 1)
    return pipeline


class TestOutput:
    BINARY = 1.5 * torch.randn(2, 5, 1, 8, 8, generator=generator(1))
    LABELS = 1.5 * torch.randn(2, 5, 4, 8, 8, generator=generator(2))
    MASKS = pytest.mark.parametrize(("masks", "labels"), [(BINARY, LABELS[:2]), (LABELS, LABELS)])
    KINDS = pytest.mark.parametrize("masks", [BINARY, LABELS], ids=["binary", "four labels"])

    def output(self, masks: Tensor, **kwargs: Any) -> tuple[Any, np.ndarray]:
        """Of the pipeline, and the members as fractions (B, M, L, H, W), by numpy."""
        pipeline = giving(masks, LABELS[:2] if masks.shape[2] == 1 else LABELS)
        fractions = np.clip((masks.numpy().astype(float) + 1) / 2, 0, 1)
        if masks.shape[2] == 1:
            fractions = np.concatenate([1 - fractions, fractions], axis=2)
        else:
            total = fractions.sum(axis=2, keepdims=True)
            fractions = np.where(total == 0, 1 / 4, fractions / np.where(total == 0, 1, total))
        return call(pipeline, num_inference_steps=1, ensemble_size=5, **kwargs), fractions

    @KINDS
    def test_probability_is_the_mean_and_sums_to_one(self, masks: Tensor) -> None:
        output, fractions = self.output(masks)
        np.testing.assert_allclose(output.probability, fractions.mean(axis=1), atol=1e-6)
        np.testing.assert_allclose(output.probability.sum(axis=1), 1, atol=1e-6)

    @KINDS
    def test_uncertainty(self, masks: Tensor) -> None:
        output, fractions = self.output(masks)
        p = fractions.mean(axis=1)
        np.testing.assert_allclose(output.uncertainty["variance"], 0.5 * fractions.var(axis=1).sum(axis=1), atol=1e-6)
        entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=1)
        np.testing.assert_allclose(output.uncertainty["entropy"], entropy, atol=1e-5)
        assert output.uncertainty["variance"].min() >= 0

    def test_variance_of_two_labels_is_that_of_the_foreground(self) -> None:
        output, fractions = self.output(self.BINARY)
        np.testing.assert_allclose(output.uncertainty["variance"], fractions[:, :, 1].var(axis=1), atol=1e-6)

    @KINDS
    @pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.9])
    def test_labels(self, masks: Tensor, threshold: float) -> None:
        output, fractions = self.output(masks, threshold=threshold)
        for labels, fractions_of_members in ((output.mask, fractions.mean(axis=1)), (output.samples, fractions)):
            assert labels.dtype == np.uint8
            foreground = np.delete(fractions_of_members, 0, axis=-3)
            expected = np.where(foreground.sum(axis=-3) > threshold, 1 + foreground.argmax(axis=-3), 0)
            np.testing.assert_array_equal(labels, expected)
            assert len(np.unique(labels)) > 1

    def test_masks_without_any_label_are_undecided(self) -> None:
        output = call(giving(torch.full((2, 2, 4, 8, 8), -1.0), LABELS), num_inference_steps=1)
        np.testing.assert_array_equal(output.probability, np.full((2, 4, 8, 8), 0.25))

    def test_masks_of_almost_no_label_sum_to_one(self) -> None:
        masks = torch.full((2, 2, 4, 8, 8), -1.0)
        masks[:, :, 2] += 1e-6
        output = call(giving(masks, LABELS), num_inference_steps=1)
        np.testing.assert_array_equal(output.probability[:, 2], 1)

    @KINDS
    def test_mask_range(self, masks: Tensor) -> None:
        labels = LABELS[:2] if masks.shape[2] == 1 else LABELS
        usual = call(giving(masks, labels), num_inference_steps=1, ensemble_size=5)
        other = call(giving((masks + 1) / 2, labels, mask_range=(0, 1)), num_inference_steps=1, ensemble_size=5)
        for own, expected in zip(maps(other), maps(usual), strict=True):
            np.testing.assert_allclose(own, expected, atol=1e-5)

    @pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
    def test_members_are_calls_of_their_own(self, labels: list[str]) -> None:
        unet = small_unet(image_encoder_config=None, mask_channels=1 if len(labels) == 2 else len(labels))
        pipeline = pipeline_of(unet, labels=labels)
        noise = pipeline.prepare_latents(2, 5, (8, 8), generator(3))
        together = call(pipeline, generator=generator(3), ensemble_size=5)
        members = []
        for member in range(5):
            pipeline.prepare_latents = lambda *_, member=member: noise[member::5]
            members.append(call(pipeline, ensemble_size=1))
        fractions_of_members = np.stack([member.probability for member in members], axis=1).astype(float)
        assert fractions_of_members.var(axis=1).max() > 1e-3
        np.testing.assert_allclose(together.probability, fractions_of_members.mean(axis=1), atol=1e-5)
        variance = 0.5 * fractions_of_members.var(axis=1).sum(axis=1)
        np.testing.assert_allclose(together.uncertainty["variance"], variance, atol=1e-5)
        np.testing.assert_array_equal(together.samples, np.stack([member.mask for member in members], axis=1))


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
def test_an_image_encoder_gives_the_probability_itself(labels: list[str]) -> None:
    """The members only decide the variance and the samples."""
    pipeline = pipeline_of(labels=labels)
    with torch.no_grad():
        logits = pipeline.unet.prior_logits(pipeline.unet.encode_image(random_images())).numpy()
    foreground = 1 / (1 + np.exp(-logits))
    parts = np.concatenate([1 - foreground, foreground], axis=1) if len(labels) == 2 else np.exp(logits)
    one, other = (call(pipeline, generator=generator(seed)) for seed in range(2))
    for output in (one, other):
        np.testing.assert_allclose(output.probability, parts / parts.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert not np.allclose(one.uncertainty["variance"], other.uncertainty["variance"], atol=1e-3)


class TestProbabilityFrom:
    def test_samples_give_the_mean_of_the_members(self, tmp_path: Any) -> None:
        """The members are those of "prior", and single calls of them average to p (Wolleb et al.)."""
        pipeline = pipeline_of(probability_from="samples")
        mean = call(pipeline, ensemble_size=3)
        alone = []
        noise = pipeline.prepare_latents(2, 3, (8, 8), generator(0))
        for member in range(3):
            single = pipeline_of(probability_from="samples")
            single.prepare_latents = lambda *_, member=member: noise[member::3]
            alone.append(call(single, ensemble_size=1).probability)
        np.testing.assert_allclose(mean.probability, np.mean(alone, axis=0), atol=1e-5)
        prior = call(pipeline_of(), ensemble_size=3)
        np.testing.assert_array_equal(prior.samples, mean.samples)
        assert not np.allclose(prior.probability, mean.probability, atol=1e-3)
        pipeline.save_pretrained(tmp_path)
        loaded = ConditionalSegmentationPipeline.from_pretrained(tmp_path)
        np.testing.assert_array_equal(call(loaded, ensemble_size=3).probability, mean.probability)

    def test_the_default_is_what_the_unet_has(self) -> None:
        assert pipeline_of().config["probability_from"] == "prior"
        assert pipeline_of(joint_unet()).config["probability_from"] == "samples"
        assert ConditionalSegmentationPipeline.from_pipe(pipeline_of()).config["probability_from"] == "prior"

    @pytest.mark.parametrize(
        ("unet", "source", "message"),
        [
            (joint_unet, "prior", "probability_from='prior', but this unet has no image encoder.* expected 'samples'"),
            (small_unet, "mean", "probability_from='mean'; expected 'prior' or 'samples'"),
        ],
    )
    def test_another_is_refused(self, unet: Any, source: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            pipeline_of(unet(), probability_from=source)


@pytest.mark.parametrize("image_encoder", [True, False])
def test_members_get_the_augmented_views_in_turn(image_encoder: bool) -> None:
    """Each equals the inverted result of a pipeline without augmentation for the mirrored or shifted image."""
    unet, image = small_unet() if image_encoder else joint_unet(), torch.zeros(2, 4, 8, 8)
    image[..., 2:6, 1:6] = random_images(2, 4, 4, 5)
    augmented, plain = pipeline_of(unet, num_tta_views=3), pipeline_of(unet)
    together = call(augmented, image, ensemble_size=5, generator=[generator(0), generator(1)])
    latents = plain.prepare_latents(2, 5, (8, 8), [generator(0), generator(1)]).unflatten(0, (2, 5))
    there = [lambda x: x, lambda x: x.flip(-1), lambda x: x.roll((1, 1), (-2, -1))]
    back = [lambda x: x, lambda x: x[..., ::-1], lambda x: np.roll(x, (-1, -1), (-2, -1))]
    probability = []
    for view in range(3):
        own = latents[:, view::3]
        plain.prepare_latents = lambda *_, own=own: own.flatten(0, 1)
        output = call(plain, there[view](image), ensemble_size=own.shape[1])
        np.testing.assert_array_equal(together.samples[:, view::3], back[view](output.samples))
        probability.append(back[view](output.probability) * (1 if image_encoder else own.shape[1]))
    mean = sum(probability) / (3 if image_encoder else 5)
    np.testing.assert_allclose(together.probability, mean, atol=1e-5)
    assert not np.allclose(together.probability, call(pipeline_of(unet), image).probability, atol=1e-3)


@pytest.mark.parametrize("num_tta_views", [0, 5])
def test_an_invalid_number_of_views_is_refused(num_tta_views: int) -> None:
    with pytest.raises(ValueError, match=rf"num_tta_views={num_tta_views}; expected 1 to 4"):
        pipeline_of(num_tta_views=num_tta_views)


class TestBatches:
    IMAGE = random_images(3, 4, 8, 8)

    @pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, DDPMScheduler])
    @pytest.mark.parametrize("batch_size", [1, 5])
    @pytest.mark.slow
    def test_their_size_does_not_change_the_result(self, scheduler: Any, batch_size: int) -> None:
        config = DDPMScheduler(**{**SCHEDULE, "prediction_type": "v_prediction"}).config
        pipeline = pipeline_of(small_unet(image_encoder_config=None), scheduler.from_config(config))
        generators: list[Any] = [[generator(seed) for seed in range(3)] for _ in range(2)]
        if scheduler is not DDPMScheduler:
            generators = [generator(0), generator(0)]
        whole = call(pipeline, self.IMAGE, num_inference_steps=4, generator=generators[0])
        parts = call(pipeline, self.IMAGE, num_inference_steps=4, generator=generators[1], batch_size=batch_size)
        np.testing.assert_allclose(parts.probability, whole.probability, atol=1e-5)
        assert not np.allclose(whole.probability[0], whole.probability[1], atol=1e-2)

    @pytest.mark.parametrize(("batch_size", "sizes"), [(1, [2, 2, 2]), (5, [4, 2]), (6, [6]), (32, [6])])
    @pytest.mark.slow
    def test_their_size(self, batch_size: int, sizes: list[int]) -> None:
        seen = []
        pipeline = pipeline_of()
        pipeline.unet.denoiser.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
        call(pipeline, self.IMAGE, num_inference_steps=1, batch_size=batch_size)
        assert seen == sizes

    def test_a_stochastic_scheduler_uses_the_generator_of_each_image(self) -> None:
        pipeline = pipeline_of(scheduler=DDPMScheduler(**SCHEDULE))
        whole = call(pipeline, self.IMAGE, generator=[generator(seed) for seed in range(3)])
        for seed in range(3):
            alone = call(pipeline, self.IMAGE[seed], generator=[generator(seed)])
            np.testing.assert_allclose(alone.probability[0], whole.probability[seed], atol=1e-5)

    def test_an_interrupted_call_leaves_the_others_as_they_are(self) -> None:
        steps = []

        def stop(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            steps.append(step)
            pipeline._interrupt = True
            return tensors

        pipeline = pipeline_of(small_unet(image_encoder_config=None))
        noise = pipeline.prepare_latents(3, 1, (8, 8), generator(0)).unflatten(0, (3, 1))
        output = call(pipeline, self.IMAGE, ensemble_size=1, batch_size=1, callback_on_step_end=stop)
        assert steps == [0] and pipeline.interrupt
        expected = ((noise[1:, 0, 0] + 1) / 2).clip(0, 1)
        np.testing.assert_allclose(output.probability[1:, 1], expected, atol=1e-6)
        call(pipeline)
        assert not pipeline.interrupt


def half(unet: Any) -> Any:
    """The same network without the half of its outputs that is the variance."""
    twin = joint_unet(out_channels=1)
    weights = unet.state_dict()
    own = {name: weights[name][: len(tensor)] for name, tensor in twin.state_dict().items()}
    twin.load_state_dict(own)
    return twin


class TestUNet2DModel:
    def looped(self, unet: Any, scheduler: Any, steps: int) -> Tensor:
        """The reverse process of one member each, written out."""
        rng, image = generator(0), random_images()
        x = torch.cat([torch.randn(1, 1, 8, 8, generator=rng) for _ in range(2)])
        scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps:
            predicted = unet(torch.cat([image, x], dim=1), timestep).sample
            x = scheduler.step(predicted, timestep, x, generator=rng).prev_sample
        return ((x[:, 0] + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    @pytest.mark.parametrize("learned", [False, True])
    def test_image_and_mask_are_its_input(self, learned: bool) -> None:
        unet = joint_unet(out_channels=1 + learned)
        scheduler = DDPMScheduler(**(LEARNED if learned else SCHEDULE))
        output = call(pipeline_of(unet, scheduler), ensemble_size=1, num_inference_steps=4)
        np.testing.assert_allclose(output.probability[:, 1], self.looped(unet, scheduler, 4), atol=1e-5)

    @torch.no_grad()
    def test_the_learnt_variance_is_made_use_of(self) -> None:
        unet = joint_unet(out_channels=2)
        fixed = self.looped(half(unet), DDPMScheduler(**SCHEDULE), 4)
        assert not torch.allclose(self.looped(unet, DDPMScheduler(**LEARNED), 4), fixed, atol=1e-2)

    @pytest.mark.parametrize(
        "scheduler",
        [
            DDIMScheduler,
            DPMSolverMultistepScheduler,
            UniPCMultistepScheduler,
            EulerDiscreteScheduler,
            HeunDiscreteScheduler,
            PNDMScheduler,
        ],
    )
    @pytest.mark.parametrize("config", [SCHEDULE, LEARNED])
    def test_schedulers_that_do_not_use_it_do_not_get_it(self, scheduler: Any, config: dict[str, Any]) -> None:
        """Even where their configuration comes from one that does."""
        unet = joint_unet(out_channels=2)
        noise = {"prediction_type": "epsilon"}
        own = scheduler.from_config(DDPMScheduler(**{**config, **noise}).config)
        expected = pipeline_of(half(unet), scheduler.from_config(DDPMScheduler(**{**SCHEDULE, **noise}).config))
        one, other = (call(pipeline, num_inference_steps=5) for pipeline in (pipeline_of(unet, own), expected))
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)

    @pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
    def test_it_equals_the_segmentation_unet_made_from_it(self, labels: list[str]) -> None:
        channels = 1 if len(labels) == 2 else len(labels)
        unet = joint_unet(4 + channels, channels)
        one, other = (
            call(pipeline_of(net, labels=labels)) for net in (unet, SegmentationUNet.from_unet(unet, channels))
        )
        np.testing.assert_array_equal(one.probability, other.probability)
