"""Text-to-MR with some of its components: prompts encoded alone, embeddings passed on, latents without autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from contracts.pipeline_contract import generator
from diffusers.callbacks import SDCFGCutoffCallback
from helpers.small_latent_diffusion import of_images
from helpers.small_text_to_mr import WIDTH, small_text_to_mr
from peft import LoraConfig

from meddiffusers import LatentDiffusionPipeline, TextToMRPipeline

SHORT, LONG = "t1 brain", "t2 weighted brain, left thalamus: 500 mm3, right thalamus"
CALL: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}


def with_only(pipeline: TextToMRPipeline, *names: str) -> TextToMRPipeline:
    parts = {name: part if name in names else None for name, part in pipeline.components.items()}
    smaller = TextToMRPipeline(**parts, noise_schedule=pipeline.config["noise_schedule"])
    smaller.set_progress_bar_config(disable=True)
    return smaller


@pytest.mark.parametrize("negative", [None, "t2", ["t2", "right"]])
def test_prompts_are_encoded_alone_and_their_embeddings_passed_on(negative: Any) -> None:
    whole = small_text_to_mr()
    expected = whole([SHORT, LONG], negative_prompt=negative, generator=generator(0), **CALL).images
    encoder = with_only(whole, "text_encoder", "tokenizer", "quantity_encoder")
    embeds, mask, negative_embeds, negative_mask = encoder.encode_prompt([SHORT, LONG], negative_prompt=negative)
    assert embeds.shape == negative_embeds.shape and mask.shape == negative_mask.shape == embeds.shape[:2]
    denoiser = with_only(whole, "unet", "vae", "scheduler")
    images = denoiser(
        prompt_embeds=embeds,
        prompt_attention_mask=mask,
        negative_prompt_embeds=negative_embeds,
        negative_prompt_attention_mask=negative_mask,
        generator=generator(0),
        **CALL,
    ).images
    np.testing.assert_allclose(images, expected, atol=1e-6)
    with pytest.raises(ValueError, match="has no unet, so it only encodes prompts"):
        encoder(SHORT)
    with pytest.raises(ValueError, match="has no text encoder and tokenizer to encode prompt"):
        denoiser(SHORT)
    with pytest.raises(ValueError, match="to encode negative_prompt"):
        denoiser(prompt_embeds=embeds, prompt_attention_mask=mask)
    assert denoiser(prompt_embeds=embeds, guidance_scale=1.0, **CALL).images.shape == (2, 16, 16, 1)


@pytest.mark.slow
def test_rows_follow_the_number_of_images() -> None:
    embeds, mask, negative, _ = small_text_to_mr().encode_prompt([SHORT, LONG], num_images_per_prompt=2)
    assert len(embeds) == len(mask) == len(negative) == 4
    assert torch.equal(embeds[0], embeds[1]) and not torch.equal(embeds[1], embeds[2])
    assert small_text_to_mr().encode_prompt(SHORT, "cpu", 1, False)[2:] == (None, None)


def test_latents_need_no_autoencoder() -> None:
    whole = small_text_to_mr()
    expected = whole(SHORT, generator=generator(0), num_inference_steps=2, output_type="latent").images
    pipeline = TextToMRPipeline(**whole.components | {"vae": None})
    latents = pipeline(SHORT, generator=generator(0), num_inference_steps=2, output_type="latent").images
    assert torch.equal(latents, expected)
    for arguments in (
        {},
        {"output_type": "latent", "height": 16},
        {"output_type": "latent", "image": np.zeros((16, 16))},
    ):
        with pytest.raises(ValueError, match="This pipeline has no vae"):
            pipeline(SHORT, **arguments)


def test_a_cutoff_of_guidance_is_that_of_diffusers() -> None:
    """It drops the negative prompts from the embeddings, and sets the scale to 0, which then is no guidance."""
    pipeline, seen = small_text_to_mr(), []
    forward = pipeline.unet.forward

    def note(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(sample))
        return forward(sample, *args, **kwargs)

    pipeline.unet.forward = note
    pipeline(SHORT, num_inference_steps=4, callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5))
    assert seen == [2, 2, 2, 1] and pipeline.guidance_scale == 0

    def raise_it(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipeline._guidance_scale = 3.0
        return tensors

    with pytest.raises(ValueError, match="begins with guidance_scale=1 encodes none, so a callback cannot raise it"):
        pipeline(SHORT, num_inference_steps=2, guidance_scale=1.0, callback_on_step_end=raise_it)


@pytest.mark.slow
def test_cross_attention_kwargs_scale_the_adapters_of_one_call() -> None:
    pipeline, base = small_text_to_mr(), small_text_to_mr()
    torch.manual_seed(0)
    for part, targets in ((pipeline.unet, ["to_q", "to_v"]), (pipeline.text_encoder, ["query"])):
        part.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))

    def image(pipeline: Any, **kwargs: Any) -> np.ndarray:
        return pipeline(SHORT, generator=generator(0), **CALL, **kwargs).images

    full, none = image(pipeline), image(pipeline, cross_attention_kwargs={"scale": 0.0})
    assert pipeline.cross_attention_kwargs == {"scale": 0.0}
    np.testing.assert_allclose(none, image(base), atol=1e-6)
    assert not np.allclose(full, none, atol=1e-4)
    half = image(pipeline, cross_attention_kwargs={"scale": 0.5})
    assert not np.allclose(half, none, atol=1e-4) and not np.allclose(half, full, atol=1e-4)
    np.testing.assert_allclose(image(pipeline), full, atol=1e-6)


def test_an_autoencoder_decodes_in_slices_and_tiles() -> None:
    pipeline = small_text_to_mr()
    images = [pipeline([SHORT, LONG], generator=generator(0), **CALL).images]
    for enable in (pipeline.vae.enable_slicing, pipeline.vae.enable_tiling):
        enable()
        images.append(pipeline([SHORT, LONG], generator=generator(0), **CALL).images)
    np.testing.assert_allclose(images[1], images[0], atol=1e-5)
    assert images[2].shape == images[0].shape


def test_latent_diffusion_without_autoencoder_or_unet() -> None:
    whole = of_images()
    sampler = LatentDiffusionPipeline(**whole.components | {"vae": None})
    call: dict[str, Any] = {"label": "ill", "num_inference_steps": 2, "output_type": "latent"}
    latents = sampler(generator=generator(0), **call).images
    assert torch.equal(latents, whole(generator=generator(0), **call).images)
    with pytest.raises(ValueError, match=r"has no vae\. Load it with one, or generate latents"):
        sampler(label="ill")
    coder = LatentDiffusionPipeline(vae=whole.vae, unet=None, scheduler=None)
    torch.testing.assert_close(coder.decode(latents), whole.decode(latents))
    torch.testing.assert_close(coder.encode(torch.ones(1, 2, 8, 8)), whole.encode(torch.ones(1, 2, 8, 8)))
    with pytest.raises(ValueError, match="has no unet"):
        coder()


def test_widths_of_the_parts_that_are_there_are_compared() -> None:
    pipeline = small_text_to_mr()
    small = small_text_to_mr().quantity_encoder
    small.register_to_config(cross_attention_dim=8)
    with pytest.raises(ValueError, match=rf"'unet': {WIDTH}, 'quantity_encoder': 8"):
        TextToMRPipeline(**pipeline.components | {"text_encoder": None, "quantity_encoder": small})
