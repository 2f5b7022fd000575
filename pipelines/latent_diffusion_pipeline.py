"""Images and volumes by diffusion in an autoencoder's latents: of covariates, a class, a label map, or of anything.

Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models"; Pinaya et al. 2022, "Brain imaging
generation with latent diffusion models".

| symbol | here | shape |
|---|---|---|
| z | `latents`, of which `vae` makes the images or volumes | (N, c, h, w) or (N, c, d, h, w) |
| y | all that is given of `covariates`, `label` and `mask` | |
| s | `guidance_scale` | |

    D̂ = D(z_t) + s (D(z_t, y) − D(z_t))                                         (Ho and Salimans 2022, s = 1 + their w)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_slices_v1 import from_indexed, size_of, to_indexed
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_latent_diffusion_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil", "nifti", "latent")


@dataclass
class LatentDiffusionPipelineOutput(BaseOutput):
    """`images`, N images or volumes in [0, 1]: an array (N, H, W, C) or (N, D, H, W, C), float32; a tensor with the
    channels behind N; NIfTI images; latents (N, c, …); or, of images, a list of 16-bit PIL images for each, one of
    each modality.
    """

    images: Any


class LatentDiffusionPipeline(UNetLoraMixin, PublishedPipelineMixin, DiffusionPipeline):
    """New images or volumes.

    vae: a `MonaiAutoencoderKL`, or diffusers' `AutoencoderKL`.
    unet: a `ConditionedUNet`.
    scheduler: any scheduler of diffusers with `set_timesteps(num_inference_steps)`.
    modalities: names of the autoencoder's channels, in their order.
    spacing: edge length in mm of the voxels; None if unknown.
    image_range: what the intensities 0 and 1 are to the autoencoder.

    Raises:
        ValueError: parts that do not fit together, with what to change.
    """

    model_cpu_offload_seq = "unet->vae"  # type: ignore[assignment]
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
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        count = vae.config["out_channels"]
        names = [f"channel {number}" for number in range(count)] if modalities is None else modalities
        self.register_to_config(
            modalities=to_indexed(names),
            spacing=None if spacing is None else float(spacing),
            image_range={number: float(end) for number, end in to_indexed(image_range).items()},
        )
        channels = {"vae": vae.config["latent_channels"], "unet": unet.config["latent_channels"]}
        dims = {"vae": vae.config.get("spatial_dims", 2), "unet": unet.config["spatial_dims"]}
        if len(set(channels.values())) > 1 or len(set(dims.values())) > 1 or len(self.modalities) != count:
            raise ValueError(
                f"Latents have the channels {channels} and dimensions {dims}, and the vae {count} channels for "
                f"{len(self.modalities)} modalities; expected each of the three to agree."
            )
        factor = unet.config["mask_downsample"]
        if unet.mask_labels and factor != self.vae_scale_factor:
            raise ValueError(
                f"The unet's mask_downsample is {factor}, and the vae makes {self.vae_scale_factor} voxels of a side of a "
                "latent; expected the same."
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in their order."""
        return from_indexed(self.config["modalities"])

    @property
    def image_range(self) -> tuple[float, float]:
        """What the intensities 0 and 1 are to the autoencoder."""
        return self.config["image_range"]["0"], self.config["image_range"]["1"]

    @property
    def vae_scale_factor(self) -> int:
        """Voxels of a side for each of a latent."""
        config = self.vae.config
        levels = len(config.get("channels") or config["block_out_channels"])
        return config.get("patch_size", 1) * 2 ** (levels - 1)

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to end the call early, with the latents as they are."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        covariates: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        label: str | Sequence[str] | None = None,
        mask: torch.Tensor | np.ndarray | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        extrapolate: bool = False,
        output_type: str = "np",
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> LatentDiffusionPipelineOutput | tuple[Any]:
        """Draw images or volumes.

        batch_size: how many; by default one for each row, label or map, or one.
        covariates: in their own units, such as `{"age": 63, "sex": "F"}`, for all or a row for each; what is left out
            is drawn as the model has learnt it.
        label: name of a class, for all or one for each.
        mask: label map (H, W) or (D, H, W) for all, or one for each, of ids that `unet.mask_labels` names and 0.
        guidance_scale: s; 1 takes no second pass.
        generator: one for all, or a list of one for each image, which then does not depend on the others.
        latents: unit noise (N, c, …) to begin with; its size decides that of the images.
        extrapolate: covariates outside the range that was learnt are taken, with a warning.
        output_type: "np", "pt", "pil", "nifti" or "latent", see the output.
        callback_on_step_end: called as `f(pipeline, step, timestep, tensors)` after each step; what it returns
            replaces the tensors.

        Raises:
            ValueError: arguments that do not fit, before any work, with what to do.
            ImportError: NIfTI without nibabel.
        """
        self._check_call(output_type, callback_on_step_end_tensor_inputs)
        count, told = self._conditions(batch_size, covariates, label, mask, extrapolate)
        if guidance_scale != 1 and not told:
            raise ValueError(
                f"guidance_scale={guidance_scale} without covariates, label or mask to guide to. Give one."
            )
        z = self.prepare_latents(count, generator, latents, told.get("masks"))
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps, device=z.device)
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        scaled = getattr(self.scheduler, "scale_model_input", lambda sample, timestep: sample)  # flow matching has none
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for number, timestep in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                predicted = self.predict(scaled(z, timestep), timestep, told, guidance_scale)
                z = self.scheduler.step(predicted, timestep, z, **extra).prev_sample
                if callback_on_step_end is not None:
                    tensors = dict.fromkeys(callback_on_step_end_tensor_inputs, z)
                    z = callback_on_step_end(self, number, timestep, tensors).get("latents", z)
                bar.update()
        images = z if output_type == "latent" else self._postprocess(self.decode(z), output_type)
        self.maybe_free_model_hooks()
        return LatentDiffusionPipelineOutput(images=images) if return_dict else (images,)

    # Steps of a call

    def prepare_latents(
        self,
        count: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        masks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Noise (N, c, …) as the scheduler begins with it; ValueError where what was given does not fit."""
        factor, channels = self.vae_scale_factor, self.unet.config["latent_channels"]
        size = size_of(self.unet) if masks is None else tuple(side // factor for side in masks.shape[1:])
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"Got {len(generator)} generators for {count} images. Give one for each.")
        shape = (count, channels, *size)
        if latents is None:
            latents = randn_tensor(shape, generator, self._execution_device, self.unet.dtype)
        elif (
            latents.ndim != len(shape)
            or latents.shape[:2] != shape[:2]
            or (masks is not None and latents.shape != shape)
        ):
            raise ValueError(f"Got latents of shape {tuple(latents.shape)}; expected noise of shape {shape}.")
        return latents.to(self._execution_device, self.unet.dtype) * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def predict(
        self, latents: torch.Tensor, timestep: Any, told: Mapping[str, torch.Tensor], guidance_scale: float
    ) -> torch.Tensor:
        """The network's prediction, guided to what it is told."""
        predicted = self.unet(latents, timestep, **told).sample
        if guidance_scale == 1:
            return predicted
        free = self.unet(latents, timestep).sample
        return free + guidance_scale * (predicted - free)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of images or volumes (N, C, …) in [0, 1]."""
        low, high = self.image_range
        scaled = low + (high - low) * images
        found = self.vae.encode(scaled.to(self._execution_device, self.vae.dtype)).latent_dist
        return (found.mode() * self.vae.config["scaling_factor"]).to(self.unet.dtype)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images or volumes (N, C, …) in [0, 1] of latents."""
        z = (latents / self.vae.config["scaling_factor"]).to(self.vae.dtype)
        low, high = self.image_range
        return ((self.vae.decode(z).sample.float() - low) / (high - low)).clamp(0, 1)

    # What a call is made of

    def _check_call(self, output_type: str, tensors: Sequence[str]) -> None:
        dims = self.unet.config["spatial_dims"]
        if output_type not in OUTPUT_TYPES or (output_type == "pil" and dims == 3):
            known = [name for name in OUTPUT_TYPES if name != "pil" or dims == 2]
            raise ValueError(f"output_type={output_type!r} in {dims} dimensions; expected one of {', '.join(known)}.")
        unknown = set(tensors) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; there is only latents.")

    def _conditions(
        self,
        batch_size: int | None,
        covariates: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        label: str | Sequence[str] | None,
        mask: Any,
        extrapolate: bool,
    ) -> tuple[int, dict[str, torch.Tensor]]:
        """How many, and what the unet is told of each."""
        rows = [covariates] if isinstance(covariates, Mapping) else covariates
        labels = [label] if isinstance(label, str) else label
        masks = None if mask is None else self._masks(mask)
        given = {"covariates": rows, "label": labels, "mask": masks}
        counts = {name: len(value) for name, value in given.items() if value is not None}
        count = batch_size or max(counts.values(), default=1)
        if count < 1 or any(each not in (1, count) for each in counts.values()):
            raise ValueError(f"Got {counts} for batch_size={batch_size}; expected one for all, or one for each.")
        told: dict[str, torch.Tensor] = {}
        if rows is not None:
            told["covariates"] = self.unet.scaled(rows, extrapolate)
        if labels is not None:
            told["class_labels"] = self._label_ids(labels)
        if masks is not None:
            told["masks"] = masks
        device = self._execution_device
        return count, {name: value.to(device).expand(count, *value.shape[1:]) for name, value in told.items()}

    def _label_ids(self, labels: Sequence[str]) -> torch.Tensor:
        known = {name: number for number, name in self.unet.id2label.items()}
        if unknown := [name for name in labels if name not in known]:
            raise ValueError(
                f"Got the labels {', '.join(map(repr, unknown))}; expected one of "
                f"{', '.join(known) or '(none: this model knows no classes)'}."
            )
        return torch.tensor([known[name] for name in labels])

    def _masks(self, mask: Any) -> torch.Tensor:
        """Checked label maps (N, …) of ids."""
        masks, known = torch.as_tensor(mask), self.unet.mask_labels
        dims, factor = self.unet.config["spatial_dims"], self.vae_scale_factor
        masks = masks[None] if masks.ndim == dims else masks
        foreign = set(masks.unique().tolist()) - {0, *known}
        if masks.ndim != dims + 1 or any(side % factor or not side for side in masks.shape[1:]) or foreign or not known:
            ids = ", ".join(f"{label} ({name})" for label, name in known.items())
            raise ValueError(
                f"Got label maps of shape {tuple(masks.shape)}"
                + (f" with the ids {', '.join(map(str, sorted(foreign)))}" if foreign else "")
                + f"; expected {dims} axes, or one more before them, sides divisible by {factor}, and the ids 0 and "
                f"{ids or '(none: this model takes no maps)'}."
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
        return [self._nifti(array) for array in arrays]

    def _nifti(self, image: np.ndarray) -> Any:
        """(C, …) about the origin: volumes run to the right, to the front and up; rows of images run from front to
        back and columns from the head's right to its left, as one axial slice.
        """
        try:
            import nibabel
        except ImportError as error:
            raise ImportError('NIfTI needs nibabel: pip install nibabel. Or ask for output_type="np".') from error
        edge = self.config["spacing"] or 1.0
        signs = (1, 1, 1)
        if image.ndim == 3:
            image, signs = image.transpose(0, 2, 1)[..., None], (-1, -1, 1)
        affine = np.diag([*(sign * edge for sign in signs), 1.0])
        affine[:3, 3] = [-sign * edge * (side - 1) / 2 for sign, side in zip(signs, image.shape[1:], strict=True)]
        nifti = nibabel.Nifti1Image(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), affine)
        nifti.set_data_dtype(np.uint16)  # of the file, which nibabel scales
        return nifti
