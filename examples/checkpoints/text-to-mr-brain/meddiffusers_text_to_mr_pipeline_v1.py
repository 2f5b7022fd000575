"""MR slices of a text: latent diffusion that attends to every token of a prompt.

El-Allaly et al. 2025 (EUSIPCO); Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models".

| symbol | here | shape |
|---|---|---|
| y | `prompt` | N texts |
| τ(y) | `prompt_embeds`: last states of `text_encoder`, then tokens of `quantity_encoder`, if any | (N, T, W) |
| | `prompt_attention_mask`, 1 where a token is real | (N, T) |
| z | `latents`, of which `vae` makes the image | (N, c, h, w) |
| s | `guidance_scale` | |

    D̂ = D(z_t, τ(negative)) + s (D(z_t, τ(y)) − D(z_t, τ(negative)))          (Ho and Salimans 2022, s = 1 + their w)

The masks reach the text encoder and the U-Net, so a image does not depend on the prompts beside it. Any text encoder
of transformers that gives `last_hidden_state` serves: BERT, CLIP, T5.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_slices_v1 import check_images, size_of
from .meddiffusers_text_lora_v1 import TextEncoderLoraMixin
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_text_to_mr_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("pil", "np", "pt", "nifti", "latent")


@dataclass
class TextToMRPipelineOutput(BaseOutput):
    """`images`, N images in [0, 1]: 16-bit PIL images; an array (N, H, W, 1), float32; a tensor (N, 1, H, W); NIfTI
    images of one axial slice each; or latents (N, c, h, w).
    """

    images: Any


class TextToMRPipeline(TextEncoderLoraMixin, UNetLoraMixin, PublishedPipelineMixin, DiffusionPipeline):  # type: ignore[misc]
    """A slice as a text describes it.

    vae: an `AutoencoderKL` of one channel in [-1, 1].
    text_encoder, tokenizer: of transformers.
    unet: a `UNet2DConditionModel`.
    scheduler: any scheduler of diffusers with `set_timesteps(num_inference_steps)`.
    quantity_encoder: a `QuantityEncoder`, which reads the prompts' numbers; None without.
    spacing: edge length in mm of the pixels; None if unknown.

    Raises:
        ValueError: parts that do not fit together, with what to change.
    """

    model_cpu_offload_seq = "text_encoder->quantity_encoder->unet->vae"  # type: ignore[assignment]
    _optional_components = ["quantity_encoder"]
    _callback_tensor_inputs = ["latents"]
    _adaptable = "UNet2DConditionModel"
    vae: Any  # set by register_modules
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    quantity_encoder: Any

    def __init__(
        self,
        vae: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        quantity_encoder: ModelMixin | None = None,
        spacing: float | None = None,
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
        self.register_to_config(spacing=None if spacing is None else float(spacing))
        width = text_encoder.config.hidden_size
        widths = {"text_encoder": width, "unet": unet.config["cross_attention_dim"]}
        if quantity_encoder is not None:
            widths["quantity_encoder"] = quantity_encoder.config["cross_attention_dim"]
        if set(widths.values()) != {width}:
            raise ValueError(
                f"Tokens have the widths {widths}; expected one. Build unet and quantity_encoder with "
                f"cross_attention_dim={width}, the text encoder's hidden_size."
            )
        channels = {"vae": vae.config["latent_channels"], "unet": unet.config["in_channels"]}
        if len({*channels.values(), unet.config["out_channels"]}) > 1 or vae.config["in_channels"] != 1:
            raise ValueError(
                f"Latents have the channels {channels}, {unet.config['out_channels']} out of the unet, and images "
                f"{vae.config['in_channels']}; expected one number for all three, and images of one channel."
            )

    @property
    def vae_scale_factor(self) -> int:
        """Pixels of a side of a image for each of a latent."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def max_tokens(self) -> int:
        """What the text encoder takes of a prompt."""
        positions = getattr(self.text_encoder.config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to end the call early, with the latents as they are."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        image: Any = None,
        strength: float = 0.7,
        guidance_rescale: float = 0.0,
        output_type: str = "pil",
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> TextToMRPipelineOutput | tuple[Any]:
        """Draw images of prompts.

        prompt: one text or N; or `prompt_embeds` (N, T, W) with `prompt_attention_mask` (N, T), see `encode_prompt`.
        height, width: in pixels; by default those that the unet was trained with.
        guidance_scale: s; 1 takes no second pass.
        negative_prompt: what to keep away from, one text or N; by default the empty text.
        num_images_per_prompt: those of a prompt follow each other.
        generator: one for all, or a list of one for each image, which then does not depend on the others.
        latents: unit noise to begin with.
        image: images in [0, 1] to change rather than to begin from noise, as `check_images` takes them with one
            channel: one for all, or one for each prompt.
        strength: part of the way to noise that such a image goes, in (0, 1].
        guidance_rescale: φ of Lin et al. 2024 (section 3.4), for schedules that end in pure noise; they take 0.7.
        output_type: "pil" (16 bits), "np", "pt", "nifti" or "latent", see the output.
        callback_on_step_end: called as `f(pipeline, step, timestep, tensors)` after each step; what it returns
            replaces the tensors.

        Raises:
            ValueError: arguments that do not fit, prompts with too many tokens among them, before any work.
            ImportError: NIfTI without nibabel.
        """
        self._check_call(num_images_per_prompt, strength, output_type, callback_on_step_end_tensor_inputs)
        guided = guidance_scale != 1
        embeds, mask = self._conditions(
            prompt,
            negative_prompt if guided else None,
            prompt_embeds,
            prompt_attention_mask,
            num_images_per_prompt,
            guided,
        )
        self._interrupt = False
        timesteps = self._timesteps(num_inference_steps, 1.0 if image is None else strength)
        count = len(embeds) // (2 if guided else 1)
        z = self.prepare_latents(count, height, width, generator, latents, image, timesteps[:1])
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        scaled = getattr(self.scheduler, "scale_model_input", lambda sample, timestep: sample)  # flow matching has none
        with self.progress_bar(total=len(timesteps)) as bar:
            for number, timestep in enumerate(timesteps):
                if self.interrupt:
                    continue
                predicted = self.predict(scaled(z, timestep), timestep, embeds, mask, guidance_scale, guidance_rescale)
                z = self.scheduler.step(predicted, timestep, z, **extra).prev_sample
                if callback_on_step_end is not None:
                    tensors = dict.fromkeys(callback_on_step_end_tensor_inputs, z)
                    z = callback_on_step_end(self, number, timestep, tensors).get("latents", z)
                bar.update()
        images = z if output_type == "latent" else self._postprocess(self.decode(z), output_type)
        self.maybe_free_model_hooks()
        return TextToMRPipelineOutput(images=images) if return_dict else (images,)

    # Steps of a call

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the unet attends to: tokens (N, T, W) and which of them are real, (N, T) of 0 and 1.

        Raises as `encode_text` does.
        """
        embeds, mask = self.encode_text(prompts)
        if self.quantity_encoder is not None:
            values, known = (part.to(embeds.device) for part in self.quantity_encoder.read(prompts))
            embeds = torch.cat([embeds, self.quantity_encoder(values, known).tokens.to(embeds.dtype)], dim=1)
            mask = torch.cat([mask, known.to(mask.dtype)], dim=1)
        return embeds, mask

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of these the tokens that come from the text encoder.

        Raises:
            ValueError: a prompt with more tokens than it takes.
        """
        tokens = self.tokenizer(list(prompts), padding=True, return_tensors="pt", verbose=False)
        mask, device = tokens.attention_mask, self._execution_device
        for number, length in enumerate(mask.sum(dim=1).tolist()):
            if length > self.max_tokens:
                raise ValueError(
                    f"Prompt {number} has {length} tokens; it takes {self.max_tokens}. Name fewer regions: "
                    f"meddiffusers.data.prompts.write_prompt_within leaves out the smallest. It begins with "
                    f"{prompts[number][:60]!r}."
                )
        mask = mask.to(device)
        states = self.text_encoder(tokens.input_ids.to(device), attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).to(self.unet.dtype), mask

    def prepare_latents(
        self,
        count: int,
        height: int | None,
        width: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        image: Any,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Noise (N, c, h, w) as the scheduler begins with it, or latents of images with noise of a time (1,)."""
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"Got {len(generator)} generators for {count} images. Give one for each.")
        images = None if image is None else self._images(image, count)
        shape = (count, self.unet.config["in_channels"], *self._size(height, width, images))
        if latents is None:
            latents = randn_tensor(shape, generator, self._execution_device, self.unet.dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"Got latents of shape {tuple(latents.shape)}; expected noise of shape {shape}.")
        noise = latents.to(self._execution_device, self.unet.dtype)
        if images is None:
            return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)
        noised = self.scheduler.add_noise if hasattr(self.scheduler, "add_noise") else _flowed(self.scheduler)
        return noised(self.encode(images), noise, timestep.expand(count))

    def predict(
        self,
        latents: torch.Tensor,
        timestep: Any,
        embeds: torch.Tensor,
        mask: torch.Tensor,
        guidance_scale: float,
        guidance_rescale: float = 0.0,
    ) -> torch.Tensor:
        """The network's prediction; guided where `embeds` are those of the negative prompts and then of the prompts."""
        copies = len(embeds) // len(latents)
        predicted = self.unet(
            torch.cat([latents] * copies), timestep, encoder_hidden_states=embeds, encoder_attention_mask=mask
        ).sample
        if copies == 1:
            return predicted
        free, bound = predicted.chunk(2)
        guided = free + guidance_scale * (bound - free)
        if not guidance_rescale:
            return guided
        axes = tuple(range(1, guided.ndim))
        rescaled = guided * bound.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
        return guidance_rescale * rescaled + (1 - guidance_rescale) * guided

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of images (N, 1, H, W) in [0, 1]."""
        moments = self.vae.encode((2 * images - 1).to(self._execution_device, self.vae.dtype)).latent_dist
        shift = self.vae.config.get("shift_factor") or 0.0
        return ((moments.mode() - shift) * self.vae.config["scaling_factor"]).to(self.unet.dtype)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, H, W) in [0, 1] of latents."""
        shift = self.vae.config.get("shift_factor") or 0.0
        z = latents / self.vae.config["scaling_factor"] + shift
        return ((self.vae.decode(z.to(self.vae.dtype)).sample.float() + 1) / 2).clamp(0, 1)

    # What a call is made of

    def _check_call(self, per_prompt: int, strength: float, output_type: str, tensors: Sequence[str]) -> None:
        if per_prompt < 1 or not 0 < strength <= 1:
            raise ValueError(
                f"num_images_per_prompt={per_prompt} and strength={strength}; expected at least 1, and in (0, 1]."
            )
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type={output_type!r} is unknown. Expected one of {', '.join(OUTPUT_TYPES)}.")
        unknown = set(tensors) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; there is only latents.")

    def _conditions(
        self,
        prompt: str | Sequence[str] | None,
        negative: str | Sequence[str] | None,
        embeds: torch.Tensor | None,
        mask: torch.Tensor | None,
        copies: int,
        guided: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask of every image; where guided, those of the negative prompts come first."""
        if (prompt is None) == (embeds is None):
            raise ValueError("Expected either a prompt or prompt_embeds.")
        if embeds is None:
            embeds, mask = self.encode_prompt(_texts(prompt))
        elif mask is None:
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        parts = [(embeds, mask)]
        if guided:
            texts = _texts(negative or "")
            if len(texts) not in (1, len(embeds)):
                raise ValueError(
                    f"Got {len(texts)} negative prompts for {len(embeds)} prompts. Give one, or one for each."
                )
            others, their_mask = self.encode_prompt(texts)
            parts.insert(0, (others.expand(len(embeds), -1, -1), their_mask.expand(len(embeds), -1)))
        longest = max(part.shape[1] for part, _ in parts)
        padded = [
            (F.pad(part, (0, 0, 0, longest - part.shape[1])), F.pad(real, (0, longest - real.shape[1])))
            for part, real in (
                (e.to(self._execution_device, self.unet.dtype), m.to(self._execution_device)) for e, m in parts
            )
        ]
        tokens, masks = (
            torch.cat([each.repeat_interleave(copies, dim=0) for each in one]) for one in zip(*padded, strict=True)
        )
        return tokens, masks

    def _images(self, image: Any, count: int) -> torch.Tensor:
        """(N, 1, H, W) in [0, 1], as many as are drawn."""
        images = check_images(image, ("image",), self.vae_scale_factor)
        if count % len(images):
            raise ValueError(f"Got {len(images)} images for {count}. Give one for all, or one for each prompt.")
        return images.repeat_interleave(count // len(images), dim=0)

    def _size(self, height: int | None, width: int | None, images: torch.Tensor | None) -> tuple[int, int]:
        """Height and width of the latents."""
        factor = self.vae_scale_factor
        if images is not None:
            height, width = images.shape[2:]
        if any(side is not None and (side < 1 or side % factor) for side in (height, width)):
            raise ValueError(f"height={height} and width={width}; expected pixels divisible by {factor}.")
        own = size_of(self.unet)
        return height // factor if height else own[0], width // factor if width else own[1]

    def _timesteps(self, steps: int, strength: float) -> torch.Tensor:
        """Those that are still to come where a image has gone this part of the way to noise."""
        self.scheduler.set_timesteps(steps, device=self._execution_device)
        first = (steps - max(1, int(steps * strength))) * getattr(self.scheduler, "order", 1)
        if first and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        return self.scheduler.timesteps[first:]

    def _postprocess(self, images: torch.Tensor, output_type: str) -> Any:
        if output_type == "pt":
            return images
        arrays = np.moveaxis(images.cpu().numpy(), 1, -1)
        if output_type == "np":
            return arrays
        if output_type == "pil":
            return [PIL.Image.fromarray(np.rint(65535 * array[..., 0]).astype(np.uint16)) for array in arrays]
        return [self._nifti(array) for array in arrays]

    def _nifti(self, image: np.ndarray) -> Any:
        """(H, W, 1) as one axial slice about the origin: rows run from front to back, columns from right to left."""
        try:
            import nibabel
        except ImportError as error:
            raise ImportError('NIfTI needs nibabel: pip install nibabel. Or ask for output_type="np".') from error
        edge = self.config["spacing"] or 1.0
        height, width = image.shape[:2]
        affine = np.diag([-edge, -edge, edge, 1.0])
        affine[:2, 3] = edge * (width - 1) / 2, edge * (height - 1) / 2
        nifti = nibabel.Nifti1Image(image.transpose(1, 0, 2), affine)
        nifti.set_data_dtype(np.uint16)  # of the file, which nibabel scales
        return nifti


def _texts(prompt: str | Sequence[str] | None) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt or ())


def _flowed(scheduler: Any) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """`add_noise` of a flow-matching scheduler, which names it otherwise and orders its arguments otherwise."""
    return lambda sample, noise, timestep: scheduler.scale_noise(sample, timestep, noise)
