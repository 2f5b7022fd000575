"""MR slices from text prompts: latent diffusion with cross-attention to every token of a prompt.

El-Allaly et al. 2025 (EUSIPCO); Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models".

| symbol | here | shape |
|---|---|---|
| y | `prompt` | B texts |
| τ(y) | `prompt_embeds`: last hidden states of `text_encoder`, then tokens of `quantity_encoder`, if any | (B, T, W) |
| | `prompt_attention_mask`, 1 where a token is not padding | (B, T) |
| z | `latents`, which `vae` decodes to images | (B, c, h, w) |
| s | `guidance_scale` | |

    D̂ = D(z_t, τ(negative)) + s (D(z_t, τ(y)) − D(z_t, τ(negative)))          (Ho and Salimans 2022, s = 1 + their w)

The text encoder and the U-Net receive the attention masks, so an image does not depend on the other prompts of its
batch. Any text encoder of transformers with `last_hidden_state` works: BERT, CLIP, T5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, StableDiffusionMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .meddiffusers_checks_v1 import check_callback, check_generators, check_given_counts, check_latents
from .meddiffusers_denoising_v1 import Callback, GuidanceMixin, check_eta, guide, num_steps, run_callback, set_timesteps
from .meddiffusers_latents_v1 import decode_latents, encode_images, to_nifti
from .meddiffusers_lora_weights_v1 import LoraWeightsMixin
from .meddiffusers_noise_v1 import add_noise, denoising_step, describe_noise, remaining_timesteps, scale_noise
from .meddiffusers_prompt_limits_v1 import check_limits
from .meddiffusers_prompts_v1 import PromptEncodingMixin
from .meddiffusers_sampling_v1 import check_scheduler
from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_slices_v1 import check_images, to_indexed, to_spacing, unet_sample_size
from .meddiffusers_text_components_v1 import check_available, check_guidance, check_parts, check_settings
from .meddiffusers_text_lora_v1 import TextEncoderLoraMixin
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_text_to_mr_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("pil", "np", "pt", "nifti", "latent")


@dataclass
class TextToMRPipelineOutput(BaseOutput):
    """Output of `TextToMRPipeline`.

    Args:
        images: B images in [0, 1]. "pil": a list of 16-bit PIL images; "np": an array (B, H, W, 1), float32; "pt": a
            tensor (B, 1, H, W); "nifti": a list of NIfTI images of one axial slice each; "latent": latents
            (B, c, h, w).
    """

    images: Any


class TextToMRPipeline(  # type: ignore[misc]
    PromptEncodingMixin,
    TextEncoderLoraMixin,
    LoraWeightsMixin,
    UNetLoraMixin,
    GuidanceMixin,
    PublishedPipelineMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
):
    """Pipeline that generates MR slices from text prompts.

    Components may be None where they are not used: prompts are encoded without `vae` and `unet`, and their embeddings
    need neither text encoder nor tokenizer. Without `vae` the results are latents.

    Args:
        vae: An `AutoencoderKL` with one image channel. Its `scaling_factor` and `shift_factor`, if any, normalise the
            latents.
        text_encoder: A text encoder of transformers.
        tokenizer: Its tokenizer.
        unet: A `UNet2DConditionModel`.
        scheduler: A scheduler for the noise that the unet was trained with: for diffusion, such as DDIM, DDPM,
            DPM-Solver, UniPC, DEIS, Euler or Heun, or for flow matching.
        quantity_encoder: A `QuantityEncoder`, which encodes the numbers of a prompt as further tokens; optional.
        spacing: Edge length of a pixel in mm; None if unknown.
        image_range: Values of the intensities 0 and 1 in the autoencoder's input and output.
        noise_schedule: The noise that the unet was trained with, see `describe_noise`; by default that of `scheduler`.
            Each call compares the scheduler with it.
        prompt_limits: What the training prompts had in common, see `meddiffusers_prompt_limits_v1`; prompts that are
            unlike them are refused or warned of.

    Raises:
        ValueError: Components that do not fit together, with what to change.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("examples/checkpoints/text-to-mr-brain")
        >>> image = pipe("Axial T1-weighted brain MRI of a 60-year-old patient").images[0]
        >>> image.save("slice.png")
    """

    model_cpu_offload_seq = "text_encoder->quantity_encoder->unet->vae"  # type: ignore[assignment]
    _optional_components = ["vae", "text_encoder", "tokenizer", "unet", "scheduler", "quantity_encoder"]
    _callback_tensor_inputs = ["latents", "prompt_embeds", "prompt_attention_mask"]
    _cross_attention_kwargs: dict[str, Any] | None = None
    _adaptable = "UNet2DConditionModel"
    vae: Any  # set by register_modules
    unet: Any
    scheduler: Any

    def __init__(
        self,
        vae: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        quantity_encoder: ModelMixin | None = None,
        spacing: float | None = None,
        image_range: Mapping[Any, float] | list[float] | tuple[float, float] = (-1.0, 1.0),
        noise_schedule: Mapping[str, Any] | None = None,
        prompt_limits: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            quantity_encoder=quantity_encoder,
        )
        self.register_to_config(
            spacing=to_spacing(spacing),
            image_range={key: float(end) for key, end in to_indexed(image_range).items()},
            noise_schedule=describe_noise(scheduler) if noise_schedule is None else noise_schedule,
            prompt_limits=check_limits(prompt_limits),
        )
        check_parts(vae, text_encoder, unet, quantity_encoder)

    @property
    def image_range(self) -> tuple[float, float]:
        """Values of the intensities 0 and 1 in the autoencoder's input and output."""
        return self.config["image_range"]["0"], self.config["image_range"]["1"]

    @property
    def vae_scale_factor(self) -> int:
        """Factor by which the autoencoder reduces each side; 1 without one."""
        return 1 if self.vae is None else 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """Arguments of the attention processors in the current call."""
        return self._cross_attention_kwargs

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float = 3.0,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        image: Any = None,
        strength: float = 0.7,
        cross_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> TextToMRPipelineOutput | tuple[Any]:
        """Generate slices from text prompts.

        Args:
            prompt: One prompt or several; or give `prompt_embeds`.
            height: Height of the images in pixels; by default that of the training images.
            width: Width of the images in pixels.
            num_inference_steps: Number of denoising steps.
            timesteps: Falling timesteps instead of a number of steps, of schedulers that take them.
            sigmas: Falling noise levels instead, of schedulers that take them.
            guidance_scale: s; 1 disables guidance, which doubles the work of each step.
            negative_prompt: Prompt to guide away from, one for all prompts or one for each; by default the empty text.
            num_images_per_prompt: Number of images for each prompt; those of one prompt follow each other.
            eta: η of Song et al. 2021, the noise that DDIM adds; other schedulers have none.
            generator: One generator for all images, or a list of one for each: an image then does not depend on the
                others of its batch.
            latents: Initial noise (B, c, h, w) of unit variance.
            prompt_embeds: Tokens (B, T, W) instead of prompts, see `encode_prompt`.
            negative_prompt_embeds: Tokens (1, T, W) or (B, T, W) instead of negative prompts.
            prompt_attention_mask: Which of these tokens are not padding, (B, T) of 0 and 1; by default all.
            negative_prompt_attention_mask: The same for `negative_prompt_embeds`.
            image: Images in [0, 1] to start from instead of noise, as `check_images` accepts them with one channel: one
                for all, or one for each prompt.
            strength: Fraction of the noise schedule that is applied to `image`, in (0, 1].
            cross_attention_kwargs: Arguments of the attention processors; `{"scale": 0.5}` halves the effect of LoRA
                adapters in this call, also in the text encoder.
            guidance_rescale: φ of Lin et al. 2024 (section 3.4), who use 0.7 for schedules that end in pure noise.
            output_type: "pil", "np", "pt", "nifti" or "latent", see `TextToMRPipelineOutput`.
            callback_on_step_end: Called as `f(pipeline, i, t, tensors)` after each step, or a `PipelineCallback`; the
                tensors that it returns replace those of the pipeline.
            callback_on_step_end_tensor_inputs: Names of the tensors that the callback receives, of "latents",
                "prompt_embeds" and "prompt_attention_mask", in which the negative prompts come first.
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `TextToMRPipelineOutput`, or a tuple of its `images`.

        Raises:
            ValueError: Arguments that do not fit, before any work starts: among them prompts that cannot be meant for
                this model (see `meddiffusers_prompt_limits_v1`) and prompts with too many tokens.
            ImportError: output_type="nifti", and nibabel is not installed.
        """
        steps = num_steps(num_inference_steps, timesteps, sigmas)
        names = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)
        check_available(self, output_type, in_pixels=bool(image is not None or height or width))
        check_settings(num_images_per_prompt, strength, output_type, OUTPUT_TYPES)
        check_callback(callback_on_step_end, names, self._callback_tensor_inputs)
        check_given_counts(height=height, width=width)
        check_guidance(guidance_scale, guidance_rescale, cross_attention_kwargs)
        check_eta(self.scheduler, eta)
        started = image is not None
        check_scheduler(self.scheduler, self.config["noise_schedule"], steps, eta=eta, from_image=started, flow=True)
        self._guidance_scale, self._cross_attention_kwargs = guidance_scale, cross_attention_kwargs
        self._interrupt = False
        given = prompt_embeds, negative_prompt_embeds, prompt_attention_mask, negative_prompt_attention_mask
        guided, lora_scale = self.do_classifier_free_guidance, (cross_attention_kwargs or {}).get("scale")
        embeds, mask, negative_embeds, negative_mask = self.encode_prompt(
            prompt, None, num_images_per_prompt, guided, negative_prompt, *given, lora_scale
        )
        batch_size = len(embeds)
        embeds, mask = (
            torch.cat([part for part in pair if part is not None])
            for pair in ((negative_embeds, embeds), (negative_mask, mask))
        )
        set_timesteps(self.scheduler, num_inference_steps, self._execution_device, timesteps, sigmas)
        remaining = remaining_timesteps(self.scheduler, steps, strength if started else 1.0)
        self._num_timesteps = len(remaining)
        z = self.prepare_latents(batch_size, height, width, generator, latents, image, remaining[:1])
        with self.progress_bar(total=len(remaining)) as bar:
            for i, t in enumerate(remaining):
                if self.interrupt:
                    continue
                conditions: dict[str, Any] = {"embeds": embeds, "mask": mask, "guidance_rescale": guidance_rescale}
                predict = partial(self.predict, guidance_scale=self.guidance_scale, **conditions)
                z = denoising_step(self.scheduler, predict, z, i, t, generator, eta)
                tensors = {"latents": z, "prompt_embeds": embeds, "prompt_attention_mask": mask}
                z, embeds, mask = run_callback(self, callback_on_step_end, names, i, t, tensors).values()
                bar.update()
        images = z if output_type == "latent" else self._postprocess(self.decode(z), output_type)
        self.maybe_free_model_hooks()
        return TextToMRPipelineOutput(images=images) if return_dict else (images,)

    # Steps of a call

    def prepare_latents(
        self,
        batch_size: int,
        height: int | None,
        width: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        image: Any,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Sample or check the initial noise, or add it to the latents of images.

        Args:
            batch_size: Number of images B.
            height: Height in pixels, or None for that of the training images.
            width: Width in pixels, or None.
            generator: One generator, or one for each image.
            latents: Noise (B, c, h, w), or None to sample it.
            image: Images to start from, or None.
            timestep: First timestep (1,), whose noise level the images get.

        Returns:
            Latents (B, c, h, w) at the first timestep.

        Raises:
            ValueError: Latents or images of a wrong shape, or another number of generators than images.
        """
        check_generators(generator, batch_size)
        images = None if image is None else self._check_image(image, batch_size)
        shape = (batch_size, self.unet.config["in_channels"], *self._size(height, width, images))
        if latents is None:
            latents = randn_tensor(shape, generator, self._execution_device, self.unet.dtype)
        else:
            check_latents(latents, shape)
        noise = latents.to(self._execution_device, self.unet.dtype)
        if images is None:
            return scale_noise(self.scheduler, noise)
        return add_noise(self.scheduler, self.encode(images), noise, timestep)

    def predict(
        self,
        latents: torch.Tensor,
        timestep: Any,
        embeds: torch.Tensor,
        mask: torch.Tensor,
        guidance_scale: float,
        guidance_rescale: float = 0.0,
    ) -> torch.Tensor:
        """Predict noise, sample or velocity (B, c, h, w), with classifier-free guidance where `embeds` has 2B rows.

        Args:
            latents: Noisy latents (B, c, h, w).
            timestep: One timestep for all, or (B,).
            embeds: Tokens (B, T, W) of the prompts, or (2B, T, W) of the negative prompts and the prompts.
            mask: Attention mask of the tokens.
            guidance_scale: s; without negative prompts it has no effect.
            guidance_rescale: φ.

        Raises:
            ValueError: s > 1, and `embeds` has no negative prompts.
        """
        copies = len(embeds) // len(latents)
        if copies == 1 and guidance_scale > 1:
            raise ValueError(
                f"guidance_scale={guidance_scale} without negative prompts. A call that begins with guidance_scale=1 "
                "encodes none, so a callback cannot raise it: begin with another one."
            )
        predicted = self.unet(
            torch.cat([latents] * copies),
            timestep,
            encoder_hidden_states=embeds,
            encoder_attention_mask=mask[-len(embeds) :],  # a callback may drop the negative prompts from embeds alone
            cross_attention_kwargs=self.cross_attention_kwargs,
        ).sample
        if copies == 1:
            return predicted
        uncond, cond = predicted.chunk(2)
        return guide(uncond, cond, guidance_scale, guidance_rescale)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (B, 1, H, W) in [0, 1] to normalised latents (B, c, h, w)."""
        latents = encode_images(self.vae, images, self.image_range, self._execution_device)
        return latents if self.unet is None else latents.to(self.unet.dtype)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode normalised latents (B, c, h, w) to images (B, 1, H, W) in [0, 1]."""
        return decode_latents(self.vae, latents, self.image_range)

    # Helpers of the steps

    def _check_image(self, image: Any, batch_size: int) -> torch.Tensor:
        """Return the images to start from, (B, 1, H, W) in [0, 1]."""
        images = check_images(image, ("image",), self.vae_scale_factor)
        if batch_size % len(images):
            raise ValueError(f"Got {len(images)} images for {batch_size}. Give one for all, or one for each prompt.")
        return images.repeat_interleave(batch_size // len(images), dim=0)

    def _size(self, height: int | None, width: int | None, images: torch.Tensor | None) -> tuple[int, int]:
        """Return height and width of the latents."""
        factor = self.vae_scale_factor
        if images is not None:
            size = tuple(images.shape[2:])
            if (height or size[0], width or size[1]) != size:
                raise ValueError(f"height={height} and width={width}, but the images have {size}; expected the same.")
            height, width = size
        if any(side is not None and side % factor for side in (height, width)):
            raise ValueError(f"height={height} and width={width}; expected pixels divisible by {factor}.")
        default = unet_sample_size(self.unet)
        return height // factor if height else default[0], width // factor if width else default[1]

    def _postprocess(self, images: torch.Tensor, output_type: str) -> Any:
        if output_type == "pt":
            return images
        arrays = np.moveaxis(images.cpu().numpy(), 1, -1)
        if output_type == "np":
            return arrays
        if output_type == "pil":
            return [PIL.Image.fromarray(np.rint(65535 * array[..., 0]).astype(np.uint16)) for array in arrays]
        return [to_nifti(array, self.config["spacing"]) for array in images.cpu().numpy()]
