"""Generate images, such as slices with all their modalities, from an unconditional or class-conditional model.

Ho et al. 2020, "Denoising diffusion probabilistic models"; with labels Ho and Salimans 2022, "Classifier-free
diffusion guidance", eq. 6 with w = `guidance_scale` − 1:

    D̂ = D(x_t, t) + guidance_scale · (D(x_t, t, y) − D(x_t, t))

| symbol | here | shape |
|---|---|---|
| x_t | `latents`, the noisy images | (B, C, H, W) |
| y | `label` by name, one for all images or one for each | |
| D | `unet`: a `PatchUNet2DModel`, or, without labels, a `UNet2DModel` | |

Images are in `image_range` for the model and in [0, 1] for the user.
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
    check_generators,
    check_latents,
    check_numbers,
    check_output_type,
)
from .meddiffusers_denoising_v1 import Callback, GuidanceMixin, check_eta, guide, num_steps, run_callback, set_timesteps
from .meddiffusers_lora_weights_v1 import LoraWeightsMixin
from .meddiffusers_noise_v1 import denoising_step, describe_noise, scale_noise, uses_learned_variance
from .meddiffusers_sampling_v1 import check_scheduler
from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_slices_v1 import from_indexed, to_indexed, to_spacing, unet_sample_size
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_image_diffusion_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil", "scan", "latent")


@dataclass
class ImageDiffusionPipelineOutput(BaseOutput):
    """Output of [`ImageDiffusionPipeline`].

    Args:
        images: B images in [0, 1]: an array (B, H, W, C), float32; a tensor (B, C, H, W); for each image a list of
            16-bit PIL images, one for each modality; for each image a `Scan` of one axial slice, centred at the origin;
            or, of "latent", a tensor (B, C, H, W) in the model's `image_range`, not clipped.
    """

    images: Any


class ImageDiffusionPipeline(LoraWeightsMixin, UNetLoraMixin, GuidanceMixin, PublishedPipelineMixin, DiffusionPipeline):
    """Generate images from noise.

    Args:
        unet: A `PatchUNet2DModel` or a `UNet2DModel`.
        scheduler: A scheduler for diffusion, such as DDIM, DDPM, DPM-Solver, UniPC, DEIS, Euler or Heun.
        modalities: Names of the channels, in order.
        spacing: Edge length in mm of the pixels; None if unknown.
        image_range: Values of the model for the intensities 0 and 1.
        noise_schedule: The noise that the unet was trained with, see `describe_noise`; by default that of `scheduler`.
            Each call compares the scheduler with it.

    Raises:
        ValueError: If the unet has another number of channels than there are modalities.

    Example:
        >>> pipe = ImageDiffusionPipeline.from_pipe(anomaly_pipeline)
        >>> images = pipe(batch_size=4, label="healthy", guidance_scale=2.0).images
    """

    model_cpu_offload_seq = "unet"  # type: ignore[assignment]
    _optional_components = ["scheduler"]
    _callback_tensor_inputs = ["latents"]
    _adaptable = "PatchUNet2DModel.from_unet(pipe.unet)"
    unet: Any  # set by register_modules
    scheduler: Any

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        modalities: Mapping[Any, str] | list[str] | tuple[str, ...] = ("t1", "t1ce", "t2", "flair"),
        spacing: float | None = None,
        image_range: Mapping[Any, float] | list[float] | tuple[float, float] = (-1.0, 1.0),
        noise_schedule: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            modalities=to_indexed(modalities),
            spacing=to_spacing(spacing),
            image_range={index: float(end) for index, end in to_indexed(image_range).items()},
            noise_schedule=describe_noise(scheduler) if noise_schedule is None else noise_schedule,
        )
        self._check_unet()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return from_indexed(self.config["modalities"])

    @property
    def image_range(self) -> tuple[float, float]:
        """Values of the model for the intensities 0 and 1."""
        return self.config["image_range"]["0"], self.config["image_range"]["1"]

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        label: str | Sequence[str] | None = None,
        num_inference_steps: int = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> ImageDiffusionPipelineOutput | tuple[Any]:
        """Generate `batch_size` images.

        Args:
            batch_size: B.
            label: Name of the class of all images, or one name for each; None: unconditional.
            num_inference_steps: Number of denoising steps.
            timesteps: Falling timesteps instead of a number of steps, of schedulers that take them.
            sigmas: Falling noise levels instead, of schedulers that take them.
            guidance_scale: Scale of classifier-free guidance; 1 is none and needs no second network pass.
            eta: η of Song et al. 2021, the noise that DDIM adds; other schedulers have none.
            generator: One for all images, or a list of one for each, with which an image does not depend on the others.
            latents: Unit noise (B, C, H, W) to start from.
            output_type: "np", "pt", "pil", "scan" or "latent", see the output.
            callback_on_step_end: Called as `f(pipeline, step, timestep, tensors)` after each step; what it returns
                replaces the tensors.
            callback_on_step_end_tensor_inputs: Names of the tensors that the callback gets; there is only "latents".
            return_dict: Return an [`ImageDiffusionPipelineOutput`] instead of a tuple.

        Raises:
            ValueError: If an argument does not fit, before any computation; the message says what to do.
            ImportError: If scans are requested and the package meddiffusers is not installed.
        """
        steps = num_steps(num_inference_steps, timesteps, sigmas)
        check_numbers(guidance_scale=guidance_scale)
        check_eta(self.scheduler, eta)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self._check_call(batch_size, steps, eta, output_type)
        labels = self._label_ids(label, batch_size, guidance_scale)
        set_timesteps(self.scheduler, num_inference_steps, self._execution_device, timesteps, sigmas)
        x = self.prepare_latents(batch_size, generator, latents)
        self._num_timesteps, self._interrupt = len(self.scheduler.timesteps), False
        self._guidance_scale = guidance_scale
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                predict = partial(self.predict, labels=labels, guidance_scale=self.guidance_scale)
                x = denoising_step(self.scheduler, predict, x, i, t, generator, eta)
                names = callback_on_step_end_tensor_inputs
                x = run_callback(self, callback_on_step_end, names, i, t, {"latents": x})["latents"]
                bar.update()
        self.maybe_free_model_hooks()
        images = self._postprocess(x, output_type)
        return ImageDiffusionPipelineOutput(images=images) if return_dict else (images,)

    def prepare_latents(
        self, batch_size: int, generator: torch.Generator | list[torch.Generator] | None, latents: torch.Tensor | None
    ) -> torch.Tensor:
        """Return noise (B, C, H, W) scaled for the scheduler; raise a ValueError if an argument does not fit."""
        shape = (batch_size, len(self.modalities), *unet_sample_size(self.unet))
        check_generators(generator, batch_size)
        if latents is None:
            latents = randn_tensor(shape, generator, self._execution_device, self.unet.dtype)
        else:
            check_latents(latents, shape, any_size=True)
        return scale_noise(self.scheduler, latents.to(self._execution_device, self.unet.dtype))

    def predict(
        self, latents: torch.Tensor, timestep: Any, labels: torch.Tensor | None, guidance_scale: float
    ) -> torch.Tensor:
        """Return the guided prediction; a learned variance is kept only if the scheduler uses it."""
        if labels is None:
            predicted = self.unet(latents, timestep).sample
        else:
            predicted = self.unet(latents, timestep, labels).sample
            if guidance_scale != 1:
                predicted = guide(self.unet(latents, timestep).sample, predicted, guidance_scale)
        return predicted if uses_learned_variance(self.scheduler) else predicted[:, : latents.shape[1]]

    def _check_unet(self) -> None:
        """The unet may be replaced after loading, so each call checks it."""
        channels = self.unet.config["in_channels"]
        if channels != len(self.modalities):
            raise ValueError(
                f"The unet has {channels} channels; got {len(self.modalities)} modalities "
                f"({', '.join(self.modalities)}). Give those that it was trained with."
            )

    def _check_call(self, batch_size: int, steps: int, eta: float, output_type: str) -> None:
        self._check_unet()
        both = 2 * len(self.modalities)  # mean and variance
        learned = self.unet.config.get("out_channels", both) == both
        check_scheduler(self.scheduler, self.config["noise_schedule"], steps, eta=eta, learned_variance=learned)
        check_counts(batch_size=batch_size)
        check_output_type(output_type, OUTPUT_TYPES)

    def _label_ids(
        self, label: str | Sequence[str] | None, batch_size: int, guidance_scale: float
    ) -> torch.Tensor | None:
        """Return the ids (B,) of the labels; None without."""
        if label is None:
            if guidance_scale != 1:
                raise ValueError(f"guidance_scale={guidance_scale} requires a label. Give one, or guidance_scale=1.")
            return None
        known = {name: index for index, name in getattr(self.unet, "id2label", {}).items()}
        names = list(label) if isinstance(label, (list, tuple)) else [label] * batch_size
        unknown = [name for name in names if not isinstance(name, str) or name not in known]
        if unknown or len(names) != batch_size:
            raise ValueError(
                f"Got the labels {', '.join(map(repr, names))} for {batch_size} images; expected one of "
                f"{', '.join(known) or '(none: this model has no labels)'} for each, or one for all."
            )
        return torch.tensor([known[name] for name in names], device=self._execution_device)

    def _postprocess(self, x: torch.Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return x
        low, high = self.image_range
        images = ((x.float() - low) / (high - low)).clamp(0, 1)
        if output_type == "pt":
            return images
        arrays = images.cpu().numpy()
        if output_type == "np":
            return np.moveaxis(arrays, 1, -1)
        if output_type == "pil":
            grey = np.rint(arrays * 65535).astype(np.uint16)
            return [[PIL.Image.fromarray(channel) for channel in image] for image in grey]
        return [self._scan(image) for image in arrays]

    def _scan(self, image: np.ndarray) -> Any:
        """Convert (C, H, W) to a scan of one slice; rows run from anterior to posterior, columns from right to left."""
        try:
            from meddiffusers.data.scan import Scan  # the one thing that a published file cannot bring along
        except ImportError as error:
            raise ImportError(
                "Scans require the package meddiffusers, which is not installed here. Install it, or use "
                'output_type="np".'
            ) from error
        edge = self.config["spacing"] or 1.0
        height, width = image.shape[1:]
        affine = np.diag([-edge, -edge, edge, 1.0])
        affine[:2, 3] = edge * (width - 1) / 2, edge * (height - 1) / 2
        return Scan(image.transpose(0, 2, 1)[..., None], affine, self.modalities)
