"""Images of prompts: the contracts, guidance against its formula, masks, images changed, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from contracts.conventions_contract import GuidanceContract, ScheduleContract, StateContract
from contracts.pipeline_contract import DenoisingContract, PipelineContract, generator
from contracts.published_contract import PublishedContract
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from helpers.small_text_to_mr import WIDTH, small_text_to_mr
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from meddiffusers import QuantityEncoder, TextToMRPipeline

SHORT, LONG = "t1 brain", "t2 weighted brain, left thalamus: 500 mm3, right thalamus"


class TestTextToMRPipeline(
    PipelineContract, DenoisingContract, StateContract, GuidanceContract, ScheduleContract, PublishedContract
):
    def build(self) -> Any:
        pipeline = small_text_to_mr()
        pipeline.set_progress_bar_config(disable=False)
        return pipeline

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {"prompt": [SHORT, LONG, "t2"][:batch_size], "num_inference_steps": 2}

    def test_a_list_of_generators_is_one_call_each(self) -> None:
        """And the prompts beside it, of other lengths, change nothing about a image."""
        pipeline, prompts = self.build(), [SHORT, LONG, "t2"]
        together = self.images(pipeline, 3, generator=[generator(seed) for seed in range(3)])
        for seed, prompt in enumerate(prompts):
            alone = self.images(pipeline, prompt=prompt, generator=generator(seed))
            np.testing.assert_allclose(together[seed], alone[0], atol=1e-4)
        assert not np.allclose(together[0], together[1], atol=1e-3)

    def test_output_types_agree(self, tmp_path: Path) -> None:
        pipeline = small_text_to_mr(spacing=2.0)
        array, tensor, pil, nifti = (
            pipeline([SHORT, LONG], num_inference_steps=2, generator=generator(0), output_type=kind).images
            for kind in ("np", "pt", "pil", "nifti")
        )
        assert array.shape == (2, 16, 16, 1) and array.dtype == np.float32
        np.testing.assert_array_equal(tensor.movedim(1, -1).numpy(), array)
        for number, image in enumerate(array[..., 0]):
            assert pil[number].mode == "I;16"
            np.testing.assert_allclose(np.asarray(pil[number]) / 65535, image, atol=1e-5)
            nibabel.save(nifti[number], tmp_path / "slice.nii.gz")
            read = nibabel.load(tmp_path / "slice.nii.gz")
            assert read.get_data_dtype() == np.uint16 and read.header.get_zooms() == pytest.approx((2, 2, 2))
            np.testing.assert_allclose(read.get_fdata()[..., 0].T, image, atol=2e-5)
            corner = read.affine @ [0, 0, 0, 1]
            assert corner.tolist() == [15, 15, 0, 1]  # right and front


@torch.no_grad()
def test_guidance_is_its_formula() -> None:
    pipeline, z = small_text_to_mr(), torch.randn(1, 2, 8, 8)
    cond, cond_mask, uncond, uncond_mask = pipeline.encode_prompt([LONG])
    one, other = (
        pipeline.predict(z, 500, tokens, mask, 1.0) for tokens, mask in ((cond, cond_mask), (uncond, uncond_mask))
    )
    both = torch.cat([uncond, cond]), torch.cat([uncond_mask, cond_mask])
    for scale in (0.0, 2.0, 5.0):
        torch.testing.assert_close(pipeline.predict(z, 500, *both, scale), other + scale * (one - other))
    full = pipeline.predict(z, 500, *both, 5.0, guidance_rescale=1.0)
    torch.testing.assert_close(full.std(), one.std())
    torch.testing.assert_close(full / full.norm(), (other + 5 * (one - other)) / (other + 5 * (one - other)).norm())


def test_every_real_token_and_no_other_is_attended_to() -> None:
    pipeline = small_text_to_mr()
    embeds, mask, *_ = pipeline.encode_prompt([SHORT, LONG], do_classifier_free_guidance=False)
    assert mask[:, -3:].tolist() == [[0, 0, 0], [0, 1, 0]]  # age, left and right thalamus
    call: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "np"}

    def generate(tokens: torch.Tensor) -> np.ndarray:
        return pipeline(prompt_embeds=tokens, prompt_attention_mask=mask, generator=generator(0), **call).images

    expected = generate(embeds)
    for row, column in ((0, mask.shape[1] - 4), (1, mask.shape[1] - 2)):
        other = embeds.clone()
        other[row, column] += 3
        changed = np.abs(generate(other) - expected).max(axis=(1, 2, 3))
        assert changed[1 - row] == 0 and (changed[row] > 1e-4) == bool(mask[row, column])


def test_given_embeddings_are_the_prompts() -> None:
    pipeline = small_text_to_mr()
    embeds, mask, *_ = pipeline.encode_prompt([SHORT, LONG])
    call: dict[str, Any] = {"num_inference_steps": 2, "num_images_per_prompt": 2, "output_type": "np"}
    images = pipeline([SHORT, LONG], generator=generator(0), **call).images
    again = pipeline(prompt_embeds=embeds, prompt_attention_mask=mask, generator=generator(0), **call).images
    np.testing.assert_array_equal(again, images)
    assert len(images) == 4


def test_images_of_a_prompt_follow_each_other() -> None:
    pipeline, seeds = small_text_to_mr(), [generator(seed) for seed in range(4)]
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    images = pipeline([SHORT, LONG], num_images_per_prompt=2, generator=seeds, **call).images
    third = pipeline(LONG, generator=generator(2), **call).images
    np.testing.assert_allclose(images[2], third[0], atol=1e-4)


def test_a_negative_prompt_matters() -> None:
    pipeline = small_text_to_mr()
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    one, other, same = (
        pipeline(SHORT, negative_prompt=text, generator=generator(0), **call).images for text in (None, "t2", "")
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other, atol=1e-4)


SCHEDULERS = {
    "DDIM": DDIMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction"),
    "DPM": DPMSolverMultistepScheduler(prediction_type="v_prediction"),
    "UniPC": UniPCMultistepScheduler(prediction_type="v_prediction"),
    "flow": FlowMatchEulerDiscreteScheduler(),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@torch.no_grad()
@pytest.mark.slow
def test_a_image_is_changed_the_less_the_lower_the_strength(name: str) -> None:
    """One step from little noise stays near the image; from pure noise nothing of it is left."""
    pipeline = TextToMRPipeline(**small_text_to_mr().components | {"scheduler": SCHEDULERS[name]})
    pipeline.set_progress_bar_config(disable=True)
    start = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    rebuilt = pipeline.decode(pipeline.encode(torch.from_numpy(start)[None, None])).numpy()[0, 0]
    call: dict[str, Any] = {"num_inference_steps": 50, "guidance_scale": 1.0, "output_type": "np"}
    far = [
        np.abs(pipeline(SHORT, image=start, strength=s, generator=generator(0), **call).images[0, ..., 0] - rebuilt)
        for s in (0.02, 0.5, 1.0)
    ]
    assert far[0].mean() < 0.02 < far[2].mean() and far[0].mean() < far[1].mean()


@pytest.mark.slow
def test_a_image_for_all_or_for_each_prompt() -> None:
    pipeline = small_text_to_mr()
    starts = torch.rand(2, 1, 16, 16)
    call: dict[str, Any] = {"num_inference_steps": 4, "output_type": "np"}
    each = pipeline([SHORT, LONG], image=starts, generator=[generator(0), generator(1)], **call).images
    alone = pipeline(LONG, image=starts[1], generator=generator(1), **call).images
    np.testing.assert_allclose(each[1], alone[0], atol=1e-4)
    mixed = [starts[0], starts[1, 0].numpy()]
    listed = pipeline([SHORT, LONG], image=mixed, generator=[generator(0), generator(1)], **call).images
    np.testing.assert_allclose(listed, each, atol=1e-6)
    with pytest.raises(ValueError, match="Got 2 images for 3"):
        pipeline([SHORT, LONG, "t2"], image=starts, **call)


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_other_text_encoders_serve(kind: str) -> None:
    pipeline = small_text_to_mr(quantities=False)
    vocabulary = len(pipeline.tokenizer)
    encoder: Any
    if kind == "clip":
        encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=WIDTH,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=24,
            )
        )
    else:
        encoder = T5EncoderModel(
            T5Config(vocab_size=vocabulary, d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        )
    other = TextToMRPipeline.from_pipe(pipeline, text_encoder=encoder.eval())
    assert other(SHORT, num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": None}, "Expected either a prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 2, WIDTH)}, "Expected either a prompt or prompt_embeds"),
        ({"prompt": "t1 " * 23}, "Prompt 0 has 25 tokens; the text encoder takes 24. Name fewer regions"),
        ({"negative_prompt": ["t1", "t2"]}, "Got 2 negative prompts for 1 prompts"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt=0"),
        ({"strength": 0.0}, r"strength=0.0; expected a number in \(0, 1\]"),
        ({"prompt": []}, r"Got prompt=\[\]; expected a text, or a list of at least one"),
        ({"prompt": 5}, "Got prompt=5; expected a text"),
        ({"prompt": ["t1", 5]}, r"Got prompt=\['t1', 5\]; expected a text"),
        ({"negative_prompt": []}, r"Got negative_prompt=\[\]; expected a text"),
        ({"negative_prompt": "t2", "negative_prompt_embeds": torch.zeros(1, 2, WIDTH)}, "either a negative_prompt or"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(2, WIDTH)},
            r"prompt_embeds of shape \(2, 16\); .* \(B, T, 16\)",
        ),
        ({"prompt": None, "prompt_embeds": torch.full((1, 2, WIDTH), torch.nan)}, "expected finite tokens"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 2, WIDTH), "prompt_attention_mask": torch.ones(1, 3)},
            r"attention mask of shape \(1, 3\) for prompt_embeds; expected \(1, 2\)",
        ),
        ({"prompt": "t1 aged 630"}, "Got age=630 in the prompt 't1 aged 630'; expected 0 to 120 years"),
        ({"eta": 2.0}, r"eta=2.0; expected a number in \[0, 1\]"),
        ({"timesteps": [500, 100]}, "Got timesteps, and the scheduler, a DDIMScheduler, chooses its own"),
        ({"timesteps": [100, 500]}, r"timesteps=\[100, 500\]; expected falling numbers"),
        ({"timesteps": [500], "sigmas": [1.0]}, "Got timesteps and sigmas; expected one of them"),
        ({"output_type": "jpeg"}, "output_type='jpeg' is unknown. Expected one of pil, np, pt, nifti, latent"),
        ({"height": 15}, "height=15 and width=None; expected pixels divisible by 2"),
        ({"latents": torch.zeros(1, 2, 4, 4)}, r"Got latents of shape \(1, 2, 4, 4\); expected noise of shape"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_text_to_mr()(**{"prompt": SHORT, **arguments})


def test_parts_that_do_not_fit() -> None:
    pipeline = small_text_to_mr()
    with pytest.raises(ValueError, match=r"Tokens have the widths .*'quantity_encoder': 8.*cross_attention_dim=16"):
        TextToMRPipeline.from_pipe(pipeline, quantity_encoder=QuantityEncoder(["age"], cross_attention_dim=8))
    config = {**pipeline.unet.config, "in_channels": 3}
    with pytest.raises(ValueError, match=r"Latents have the channels .*'unet': 3"):
        TextToMRPipeline.from_pipe(pipeline, unet=UNet2DConditionModel.from_config(config))
