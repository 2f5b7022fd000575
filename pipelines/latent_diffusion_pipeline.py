"""Images and volumes by diffusion in an autoencoder's latents: unconditional, or given covariates, a class or a mask.

Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models"; Pinaya et al. 2022, "Brain imaging
generation with latent diffusion models".

| symbol | here | shape |
|---|---|---|
| z | `latents`, which `vae` decodes to images or volumes | (B, c, h, w) or (B, c, d, h, w) |
| y | conditions: `covariates`, `label` and `mask`, those that are given | |
| s | `guidance_scale` | |

    D̂ = D(z_t) + s (D(z_t, y) − D(z_t))                                         (Ho and Salimans 2022, s = 1 + their w)
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
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from .meddiffusers_checks_v1 import (
    check_callback,
    check_counts,
    check_flags,
    check_generators,
    check_given_counts,
    check_latents,
    check_names,
    check_numbers,
)
from .meddiffusers_denoising_v1 import Callback, GuidanceMixin, check_eta, guide, num_steps, run_callback, set_timesteps
from .meddiffusers_latents_v1 import decode_latents, encode_images, to_nifti
from .meddiffusers_lora_weights_v1 import LoraWeightsMixin
from .meddiffusers_noise_v1 import denoising_step, describe_noise, scale_noise
from .meddiffusers_sampling_v1 import check_scheduler
from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_slices_v1 import from_indexed, to_indexed, to_spacing, unet_sample_size
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_latent_diffusion_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil", "nifti", "latent")


@dataclass
class LatentDiffusionPipelineOutput(BaseOutput):
    """Output of `LatentDiffusionPipeline`.

    Args:
        images: B images or volumes in [0, 1]. "np": an array (B, H, W, C) or (B, D, H, W, C), float32; "pt": a tensor
            (B, C, H, W) or (B, C, D, H, W); "nifti": a list of NIfTI images; "pil", of images only: for each a list of
            16-bit PIL images, one per modality; "latent": latents (B, c, …).
    """

    images: Any


class LatentDiffusionPipeline(
    LoraWeightsMixin, UNetLoraMixin, GuidanceMixin, PublishedPipelineMixin, DiffusionPipeline
):
    """Pipeline that generates images or volumes by latent diffusion.

    Components may be None where they are not used: `vae` where latents are generated, `unet` where images are only
    encoded and decoded.

    Args:
        vae: A `MonaiAutoencoderKL`, or an `AutoencoderKL` of diffusers. Its `scaling_factor` and `shift_factor`, if
            any, normalise the latents.
        unet: A `ConditionedUNet`.
        scheduler: A scheduler for the noise that the unet was trained with: for diffusion, such as DDIM, DDPM,
            DPM-Solver, UniPC, DEIS, Euler or Heun, or for flow matching.
        modalities: Names of the autoencoder's channels, in their order.
        spacing: Edge length of a pixel or voxel in mm; None if unknown.
        image_range: Values of the intensities 0 and 1 in the autoencoder's input and output.
        noise_schedule: The noise that the unet was trained with, see `describe_noise`; by default that of `scheduler`.
            Each call compares the scheduler with it.

    Raises:
        ValueError: Components that do not fit together, with what to change.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("examples/checkpoints/ldm-brain-3d")
        >>> volume = pipe(covariates={"age": 63, "sex": "F"}, output_type="nifti").images[0]
        >>> volume.to_filename("brain.nii.gz")
    """

    model_cpu_offload_seq = "unet->vae"  # type: ignore[assignment]
    _optional_components = ["vae", "unet", "scheduler"]
    _callback_tensor_inputs = ["latents"]
    _adaptable = "ConditionedUNet"
    vae: Any  # set by register_modules
    unet: Any
    scheduler: Any

    def __init__(
        self,
        vae: ModelMixin,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        modalities: Mapping[Any, str] | list[str] | tuple[str, ...] | None = None,
        spacing: float | None = None,
        image_range: Mapping[Any, float] | list[float] | tuple[float, float] = (-1.0, 1.0),
        noise_schedule: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        image_channels = len(modalities or ("image",)) if vae is None else vae.config["out_channels"]
        names = [f"channel {i}" for i in range(image_channels)] if modalities is None else modalities
        self.register_to_config(
            modalities=to_indexed(names),
            spacing=to_spacing(spacing),
            image_range={key: float(end) for key, end in to_indexed(image_range).items()},
            noise_schedule=describe_noise(scheduler) if noise_schedule is None else noise_schedule,
        )
        models = {name: part for name, part in (("vae", vae), ("unet", unet)) if part is not None}
        channels = {name: part.config["latent_channels"] for name, part in models.items()}
        dims = {name: part.config.get("spatial_dims", 2) for name, part in models.items()}
        if len(set(channels.values())) > 1 or len(set(dims.values())) > 1 or len(self.modalities) != image_channels:
            raise ValueError(
                f"Latents have the channels {channels} and dimensions {dims}, and the vae {image_channels} channels "
                f"for {len(self.modalities)} modalities; expected each of the three to agree."
            )
        factor = unet.config["mask_downsample"] if unet is not None and unet.mask_labels else None
        if factor and factor != self.vae_scale_factor:
            raise ValueError(
                f"The unet has mask_downsample={factor}, and the vae reduces each side by {self.vae_scale_factor}; "
                "expected the same factor."
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in their order."""
        return from_indexed(self.config["modalities"])

    @property
    def image_range(self) -> tuple[float, float]:
        """Values of the intensities 0 and 1 in the autoencoder's input and output."""
        return self.config["image_range"]["0"], self.config["image_range"]["1"]

    @property
    def vae_scale_factor(self) -> int:
        """Factor by which the autoencoder reduces each side; without one, that of the unet's label maps."""
        if self.vae is None:
            return self.unet.config["mask_downsample"]
        config = self.vae.config
        levels = len(config.get("channels") or config["block_out_channels"])
        return config.get("patch_size", 1) * 2 ** (levels - 1)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        covariates: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        label: str | Sequence[str] | None = None,
        mask: torch.Tensor | np.ndarray | None = None,
        num_inference_steps: int = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        extrapolate: bool = False,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> LatentDiffusionPipelineOutput | tuple[Any]:
        """Generate images or volumes.

        Args:
            batch_size: Number of images B; by default the number of rows, labels or masks, or 1.
            covariates: Covariates in their own units, such as `{"age": 63, "sex": "F"}`: one row for all images, or one
                for each. The model samples the images without the covariates that a row leaves out.
            label: Name of a class, one for all images or one for each.
            mask: Label map (H, W) or (D, H, W) for all images, or one for each, with 0 and the ids of
                `unet.mask_labels`. It determines the size of the images.
            num_inference_steps: Number of denoising steps.
            timesteps: Falling timesteps instead of a number of steps, of schedulers that take them.
            sigmas: Falling noise levels instead, of schedulers that take them.
            guidance_scale: s; 1 disables guidance, which needs a second pass of the U-Net in each step.
            eta: η of Song et al. 2021, the noise that DDIM adds; other schedulers have none.
            generator: One generator for all images, or a list of one for each: an image then does not depend on the
                others of its batch.
            latents: Initial noise (B, c, …) of unit variance; it determines the size of the images.
            extrapolate: Accept covariates outside the range of the training data, with a warning.
            output_type: "np", "pt", "pil", "nifti" or "latent", see `LatentDiffusionPipelineOutput`.
            callback_on_step_end: Called as `f(pipeline, i, t, tensors)` after each step; the tensors that it returns
                replace those of the pipeline.
            callback_on_step_end_tensor_inputs: Names of the tensors that the callback receives.
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `LatentDiffusionPipelineOutput`, or a tuple of its `images`.

        Raises:
            ValueError: Arguments that do not fit, before any work starts, with what to change.
            ImportError: output_type="nifti", and nibabel is not installed.
        """
        steps = num_steps(num_inference_steps, timesteps, sigmas)
        self._check_output_type(output_type)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_numbers(guidance_scale=guidance_scale)
        check_flags(extrapolate=extrapolate)
        check_eta(self.scheduler, eta)
        check_scheduler(self.scheduler, self.config["noise_schedule"], steps, eta=eta, flow=True)
        batch_size, conditions = self._encode_conditions(batch_size, covariates, label, mask, extrapolate)
        if guidance_scale != 1 and not conditions:
            raise ValueError(f"guidance_scale={guidance_scale} needs covariates, a label or a mask. Give one of them.")
        set_timesteps(self.scheduler, num_inference_steps, self._execution_device, timesteps, sigmas)
        z = self.prepare_latents(batch_size, generator, latents, conditions.get("masks"))
        self._num_timesteps, self._interrupt = len(self.scheduler.timesteps), False
        self._guidance_scale = guidance_scale
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                predict = partial(self.predict, conditions=conditions, guidance_scale=self.guidance_scale)
                z = denoising_step(self.scheduler, predict, z, i, t, generator, eta)
                names = callback_on_step_end_tensor_inputs
                z = run_callback(self, callback_on_step_end, names, i, t, {"latents": z})["latents"]
                bar.update()
        images = z if output_type == "latent" else self._postprocess(self.decode(z), output_type)
        self.maybe_free_model_hooks()
        return LatentDiffusionPipelineOutput(images=images) if return_dict else (images,)

    # Steps of a call

    def prepare_latents(
        self,
        batch_size: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        masks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Sample or check the initial noise (B, c, …), and scale it as the scheduler expects.

        Raises:
            ValueError: Latents of a wrong shape, or another number of generators than images.
        """
        factor, channels = self.vae_scale_factor, self.unet.config["latent_channels"]
        size = unet_sample_size(self.unet) if masks is None else tuple(side // factor for side in masks.shape[1:])
        check_generators(generator, batch_size)
        shape = (batch_size, channels, *size)
        if latents is None:
            latents = randn_tensor(shape, generator, self._execution_device, self.unet.dtype)
        else:
            check_latents(latents, shape, any_size=masks is None)
        return scale_noise(self.scheduler, latents.to(self._execution_device, self.unet.dtype))

    def predict(
        self, latents: torch.Tensor, timestep: Any, conditions: Mapping[str, torch.Tensor], guidance_scale: float
    ) -> torch.Tensor:
        """Predict noise, sample or velocity (B, c, …) with classifier-free guidance.

        Args:
            latents: Noisy latents (B, c, …).
            timestep: One timestep for all, or (B,).
            conditions: Keyword arguments of the U-Net.
            guidance_scale: s; 1 disables guidance.
        """
        cond = self.unet(latents, timestep, **conditions).sample
        if guidance_scale == 1:
            return cond
        uncond = self.unet(latents, timestep).sample
        return guide(uncond, cond, guidance_scale)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images or volumes (B, C, …) in [0, 1] to normalised latents (B, c, …)."""
        latents = encode_images(self.vae, images, self.image_range, self._execution_device)
        return latents if self.unet is None else latents.to(self.unet.dtype)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode normalised latents (B, c, …) to images or volumes (B, C, …) in [0, 1]."""
        return decode_latents(self.vae, latents, self.image_range)

    # Helpers of the steps

    def _check_output_type(self, output_type: str) -> None:
        if self.unet is None or (self.vae is None and output_type != "latent"):
            raise ValueError(
                f"This pipeline has no {'unet' if self.unet is None else 'vae'}. Load it with one"
                + (', or generate latents: output_type="latent".' if self.unet is not None else ".")
            )
        dims = self.unet.config["spatial_dims"]
        if output_type not in OUTPUT_TYPES or (output_type == "pil" and dims == 3):
            known = [name for name in OUTPUT_TYPES if name != "pil" or dims == 2]
            raise ValueError(f"output_type={output_type!r} in {dims} dimensions; expected one of {', '.join(known)}.")

    def _encode_conditions(
        self,
        batch_size: int | None,
        covariates: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        label: str | Sequence[str] | None,
        mask: torch.Tensor | np.ndarray | None,
        extrapolate: bool,
    ) -> tuple[int, dict[str, torch.Tensor]]:
        """Return the batch size, and the conditions as keyword arguments of the U-Net."""
        rows = [covariates] if isinstance(covariates, Mapping) else covariates
        if rows is not None and (not isinstance(rows, (list, tuple)) or not all(isinstance(r, Mapping) for r in rows)):
            raise ValueError(f"covariates={rows!r}; expected a row by name, or a list of one for each image.")
        labels = check_names("label", label)
        check_given_counts(batch_size=batch_size)
        masks = None if mask is None else self._check_masks(mask)
        given = {"covariates": rows, "label": labels, "mask": masks}
        counts = {name: len(value) for name, value in given.items() if value is not None}
        count = max(counts.values(), default=1) if batch_size is None else batch_size
        check_counts(batch_size=count)
        if any(each not in (1, count) for each in counts.values()):
            raise ValueError(f"Got {counts} for batch_size={batch_size}; expected one for all, or one for each.")
        conditions: dict[str, torch.Tensor] = {}
        if rows is not None:
            conditions["covariates"] = self.unet.scale_covariates(rows, extrapolate)
        if labels is not None:
            conditions["class_labels"] = self._label_ids(labels)
        if masks is not None:
            conditions["masks"] = masks
        device = self._execution_device
        return count, {name: value.to(device).expand(count, *value.shape[1:]) for name, value in conditions.items()}

    def _label_ids(self, labels: Sequence[str]) -> torch.Tensor:
        ids = {name: label_id for label_id, name in self.unet.id2label.items()}
        if unknown := [name for name in labels if name not in ids]:
            raise ValueError(
                f"Got the labels {', '.join(map(repr, unknown))}; expected one of "
                f"{', '.join(ids) or '(none: this model has no classes)'}."
            )
        return torch.tensor([ids[name] for name in labels])

    def _check_masks(self, mask: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Return label maps (1, …) or (B, …) of known ids."""
        array, known = np.asarray(mask), self.unet.mask_labels
        if array.dtype.kind not in "buif":
            raise ValueError(f"Got a mask of type {array.dtype}; expected a label map of whole numbers.")
        masks = torch.as_tensor(mask)
        dims, factor = self.unet.config["spatial_dims"], self.vae_scale_factor
        masks = masks[None] if masks.ndim == dims else masks
        unknown = set(masks.unique().tolist()) - {0, *known}
        if masks.ndim != dims + 1 or any(side % factor or not side for side in masks.shape[1:]) or unknown or not known:
            ids = ", ".join(f"{label_id} ({name})" for label_id, name in known.items())
            raise ValueError(
                f"Got label maps of shape {tuple(masks.shape)}"
                + (f" with the ids {', '.join(map(str, sorted(unknown)))}" if unknown else "")
                + f"; expected {dims} axes, or one more before them, sides divisible by {factor}, and the ids 0 and "
                f"{ids or '(none: this model takes no masks)'}."
            )
        return masks

    def _postprocess(self, images: torch.Tensor, output_type: str) -> Any:
        if output_type == "pt":
            return images
        arrays = images.cpu().numpy()
        if output_type == "np":
            return np.moveaxis(arrays, 1, -1)
        if output_type == "pil":
            grey = np.rint(arrays * 65535).astype(np.uint16)
            return [[PIL.Image.fromarray(channel) for channel in image] for image in grey]
        return [to_nifti(array, self.config["spacing"]) for array in arrays]
