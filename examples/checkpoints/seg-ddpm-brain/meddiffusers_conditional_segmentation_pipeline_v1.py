"""Segment images with a conditional diffusion model: an ensemble of masks, their mean and their disagreement.

Wolleb et al. 2022, "Diffusion models for implicit image segmentation ensembles". The reverse process denoises the mask
only; the image is the condition of every step and is never noised. Each initial noise gives another plausible mask.

| symbol | here | shape |
|---|---|---|
| b | image in [0, 1], the channels in the order of `modalities` | (B, C, H, W) |
| x_t | noisy masks, `latents`; the M members of one image follow each other | (B·M, K, H, W) |
| y_m | sample m of an image as fractions of each label, background first | (B, M, L, H, W) |
| p | probability, the expectation of y given b | (B, L, H, W) |

A binary mask has K = 1 channel, L > 2 labels have K = L channels, one-hot. `mask_range` holds the values of the model
for 0 and 1 of a mask.

`probability_from` chooses where p comes from. "samples": the mean of y_m over the members, as in the paper. "prior":
a `SegmentationUNet` with an image encoder computes p(label | b) without sampling, as the softmax of its prior logits.
For exact networks both are the same expectation (the tower rule), the first with the sampling error of a mean over few
members, the second without it (Rao–Blackwell). For trained ones they differ. With "prior" the members decide neither p
nor the mask, only `samples` and the variance. `meddiffusers evaluate segmentation` measures both.

Test-time augmentation gives the members up to four views of the image in turn: unchanged, mirrored, shifted by a pixel,
and both. p is then the mean of the probabilities of all views. A network that was trained on mirrored and shifted
images is equally accurate on each view, with slightly different errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from .meddiffusers_checks_v1 import check_callback, check_counts, check_finite, check_generators, check_output_type
from .meddiffusers_denoising_v1 import Callback, DenoisingMixin, run_callback
from .meddiffusers_lora_weights_v1 import LoraWeightsMixin
from .meddiffusers_noise_v1 import denoising_step, describe_noise, scale_noise, uses_learned_variance
from .meddiffusers_sampling_v1 import check_scheduler
from .meddiffusers_saving_v1 import PublishedPipelineMixin
from .meddiffusers_segmentation_maps_v1 import (
    TTA_VIEWS,
    apply_tta,
    assign_labels,
    check_channels,
    check_labels,
    check_noise_schedule,
    check_probability_from,
    check_threshold,
    convert_maps,
    invert_tta,
    label_probability,
    masks_to_fractions,
    summarise,
)
from .meddiffusers_slices_v1 import (
    Generators,
    check_images,
    draw_noise,
    from_indexed,
    is_subject,
    reserve_noise,
    select_generators,
    subject_to_slices,
    to_indexed,
    to_spacing,
    unet_sample_size,
    unet_stride,
)
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_conditional_segmentation_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass
class ConditionalSegmentationPipelineOutput(BaseOutput):
    """Segmentation of B images with M members each and L labels, background first.

    For scans each field is a `Scan` on the voxels of the subject's files instead: without the axis B, `probability`
    with a channel for each label and `samples` with a channel for each member.

    Args:
        mask: Label ids, (B, H, W), uint8 (PIL: mode "P"); of "latent" the denoised masks of the members' augmented
            views, (B, M, K, H, W) in `mask_range`.
        probability: p of the module's table, (B, L, H, W); sums to 1 over the labels.
        uncertainty: Maps (B, H, W) by name: "variance" of the members, ½ Σ_l Var_m(y_ml), for two labels the variance
            of the foreground, in [0, 1/4]; "entropy" of the probability, −Σ_l p_l log p_l, in nats.
        samples: Label ids of each member, (B, M, H, W), uint8.
    """

    mask: Any
    probability: Any
    uncertainty: dict[str, Any]
    samples: Any


class ConditionalSegmentationPipeline(
    LoraWeightsMixin, UNetLoraMixin, DenoisingMixin, PublishedPipelineMixin, DiffusionPipeline
):
    """Segment images with an ensemble of denoised masks.

    Args:
        unet: A `SegmentationUNet`, or a `UNet2DModel` whose input channels are image and noisy mask.
        scheduler: A scheduler for diffusion, such as DDIM, DDPM, DPM-Solver, UniPC, DEIS, Euler or Heun.
        modalities: Names of the image's channels, in order.
        id2label: Names of the labels by id; 0 is the background.
        spacing: Edge length in mm of the pixels of the training images, to which scans are resampled; None if unknown.
        mask_range: Values of the model for 0 and 1 of a mask.
        num_tta_views: Number of views for test-time augmentation, from 1 (none) to 4.
        probability_from: "prior" or "samples", see above. By default "prior" if the unet has an image encoder, since it
            is free of the sampling error, otherwise "samples".
        noise_schedule: The noise that the unet was trained with, see `describe_noise`; by default that of `scheduler`.
            Each call compares the scheduler with it.

    Raises:
        ValueError: If the unet has another number of channels or labels, or no image encoder for "prior", or if there
            are not so many views.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("examples/checkpoints/seg-ddpm-brain")
        >>> mask = pipe(images, generator=torch.Generator().manual_seed(0)).mask  # images: (B, 4, 96, 96) in [0, 1]
    """

    model_cpu_offload_seq = "unet"  # type: ignore[assignment]
    _optional_components = ["scheduler"]
    _callback_tensor_inputs = ["latents"]
    _adaptable = "SegmentationUNet.from_unet(pipe.unet, mask_channels=pipe.mask_channels)"
    unet: Any  # set by register_modules
    scheduler: Any

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        modalities: Mapping[Any, str] | list[str] | tuple[str, ...] = ("t1", "t1ce", "t2", "flair"),
        id2label: Mapping[Any, str] | None = None,
        spacing: float | None = None,
        mask_range: Mapping[Any, float] | list[float] | tuple[float, float] = (-1.0, 1.0),
        num_tta_views: int = 1,
        probability_from: str | None = None,
        noise_schedule: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        labels = to_indexed(id2label or ("background", "lesion"))
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            modalities=to_indexed(modalities),
            id2label=labels,
            spacing=to_spacing(spacing),
            mask_range={index: float(end) for index, end in to_indexed(mask_range).items()},
            num_tta_views=num_tta_views,
            probability_from=probability_from or ("prior" if self._has_image_encoder else "samples"),
            noise_schedule=describe_noise(scheduler) if noise_schedule is None else noise_schedule,
        )
        if num_tta_views not in range(1, len(TTA_VIEWS) + 1) or isinstance(num_tta_views, bool):
            raise ValueError(f"num_tta_views={num_tta_views}; expected 1 to {len(TTA_VIEWS)}.")
        check_labels(labels)
        self._check_unet()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the image's channels, in order."""
        return from_indexed(self.config["modalities"])

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the labels by id, background first."""
        return dict(enumerate(from_indexed(self.config["id2label"])))

    @property
    def mask_range(self) -> tuple[float, float]:
        """Values of the model for 0 and 1 of a mask."""
        return self.config["mask_range"]["0"], self.config["mask_range"]["1"]

    @property
    def mask_channels(self) -> int:
        """K: 1 for a binary mask, otherwise the number of labels."""
        count = len(self.config["id2label"])
        return 1 if count == 2 else count

    @property
    def _has_image_encoder(self) -> bool:
        return getattr(self.unet, "image_encoder", None) is not None

    @property
    def _tta_views(self) -> tuple[tuple[bool, int], ...]:
        return TTA_VIEWS[: self.config["num_tta_views"]]

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        num_inference_steps: int = 10,
        ensemble_size: int = 5,
        batch_size: int = 32,
        generator: Generators = None,
        threshold: float = 0.5,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> ConditionalSegmentationPipelineOutput | tuple[Any, ...]:
        """Segment images, or the scans of a subject.

        Args:
            image: What `preprocess` takes; or scans, which require the package meddiffusers: a `Scan`, a list or a
                `Subject` of them, `{"flair": scan or path}`, or the path of a file or of a subject's folder. Scans are
                resampled and cut into axial slices; missing modalities are filled with 0.
            num_inference_steps: Number of denoising steps.
            ensemble_size: M, the number of members.
            batch_size: How many masks are denoised at once, at least the members of one image. It bounds the memory:
                only the results of an image are kept, on the CPU.
            generator: One for all images, or a list of one for each image (slice). With a list, or with one generator
                and a scheduler that adds no noise, the result does not depend on `batch_size`.
            threshold: A pixel is foreground where 1 − p(background) exceeds it, with the most likely other label.
            output_type: "np", "pt" (on the CPU), "pil" for `mask` and `samples` as palette images, or "latent", as "pt"
                but for `mask`; scans are returned as scans.
            callback_on_step_end: Called as `f(pipeline, step, timestep, tensors)` after each step of each batch; what
                it returns replaces the tensors, the masks of the members' augmented views.
            callback_on_step_end_tensor_inputs: Names of the tensors that the callback gets; there is only "latents".
            return_dict: Return a [`ConditionalSegmentationPipelineOutput`] instead of a tuple.

        Raises:
            ValueError: If an input does not fit, before any computation; the message says what to do.
            ImportError: If scans are given and the package meddiffusers is not installed.
        """
        self._check_unet()
        self._check_scheduler(num_inference_steps)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self._check_call(ensemble_size, batch_size, threshold, output_type)
        subject = self._load_slices(image) if is_subject(image) else None
        images = self.preprocess(image) if subject is None else torch.from_numpy(subject.images)
        check_generators(generator, len(images))
        self._interrupt = False
        maps = self._ensemble(
            images.split(max(1, batch_size // ensemble_size)),
            ensemble_size,
            num_inference_steps,
            generator,
            threshold,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            keep_latents=output_type == "latent",
        )
        self.maybe_free_model_hooks()
        if subject is None:
            output = ConditionalSegmentationPipelineOutput(**convert_maps(maps, output_type))
        else:
            output = self._restore(subject, convert_maps(maps, "np"), threshold)
        return output if return_dict else output.to_tuple()

    def preprocess(self, image: Any) -> torch.Tensor:
        """Convert images to checked (B, C, H, W) floats in [0, 1]; takes and raises what `check_images` does."""
        return check_images(image, self.modalities, unet_stride(self.unet))

    def prepare_latents(
        self, num_images: int, ensemble_size: int, size: Sequence[int], generator: Generators
    ) -> torch.Tensor:
        """Draw unit noise (B·M, K, H, W), with one generator for all images or a list of one for each."""
        shape = (ensemble_size, self.mask_channels, *size)
        return draw_noise(num_images, shape, generator, self._execution_device, self.unet.dtype).flatten(0, 1)

    @torch.no_grad()
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the condition of every step, from images (B, C, H, W); for a `UNet2DModel` these themselves."""
        images = images.to(self.unet.dtype)
        if not hasattr(self.unet, "encode_image"):
            return images
        features = self.unet.encode_image(images)
        check_finite(features, "unet", "the encoding of the images")
        return features

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, timestep: Any, features: torch.Tensor) -> torch.Tensor:
        """Predict from noisy masks (n·B, K, H, W); a learned variance is kept only if the scheduler uses it."""
        if hasattr(self.unet, "encode_image"):
            predicted = self.unet(latents, timestep, features=features).sample
        else:
            repeated = features.repeat_interleave(len(latents) // len(features), dim=0)
            predicted = self.unet(torch.cat([repeated, latents], dim=1), timestep).sample
        return predicted if uses_learned_variance(self.scheduler) else predicted[:, : latents.shape[1]]

    # Checks

    def _check_unet(self) -> None:
        """The unet may be replaced after loading, so each call checks it."""
        check_channels(self.unet, self.modalities, len(self.id2label), self.mask_channels)
        check_probability_from(self.config["probability_from"], self._has_image_encoder)
        if self._has_image_encoder:
            check_noise_schedule(self.unet, self.config["noise_schedule"], self.mask_range)

    def _check_scheduler(self, steps: int) -> None:
        both = 2 * self.mask_channels  # mean and variance
        learned = self.unet.config.get("out_channels", both) == both
        check_scheduler(self.scheduler, self.config["noise_schedule"], steps, learned_variance=learned)

    def _check_call(self, ensemble_size: int, batch_size: int, threshold: float, output_type: str) -> None:
        check_counts(ensemble_size=ensemble_size, batch_size=batch_size)
        check_threshold(threshold)
        check_output_type(output_type, OUTPUT_TYPES)

    # Steps of a call

    def _ensemble(
        self,
        batches: Sequence[torch.Tensor],
        members: int,
        steps: int,
        generator: Generators,
        threshold: float,
        callback: Callback | None,
        tensors: Sequence[str],
        keep_latents: bool,
    ) -> dict[str, torch.Tensor]:
        """Results of all images on the CPU, see `summarise`, computed batch by batch."""
        results, first, device = [], 0, self._execution_device
        size = batches[0].shape[2:]
        shape = (members, self.mask_channels, *size)
        noise = reserve_noise(generator, sum(map(len, batches)), shape, self.unet.dtype)
        self.scheduler.set_timesteps(steps, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        with self.progress_bar(total=len(batches) * self.num_timesteps) as bar:
            for images in batches:
                own = slice(first, first + len(images))
                first += len(images)
                latents = self.prepare_latents(len(images), members, size, select_generators(noise, own))
                latents = latents.unflatten(0, (-1, members))
                step_generator = generator
                if isinstance(generator, list):
                    step_generator = [each for each in generator[own] for _ in range(members)]
                images = images.to(device)
                views = torch.stack([apply_tta(images, view) for view in self._tta_views], dim=1)  # (B, V, C, H, W)
                features = self.encode_image(views.flatten(0, 1)).unflatten(0, views.shape[:2])
                self.scheduler.set_timesteps(steps, device=device)  # resets the state that the last batch left
                masks = self._denoise(features, latents, step_generator, callback, tensors, bar)
                results.append(summarise(*self._merge_views(features, masks), threshold))
                if keep_latents:
                    results[-1]["latents"] = masks.cpu()
        return {name: torch.cat([result[name] for result in results]) for name in results[0]}

    def _denoise(
        self,
        features: torch.Tensor,
        latents: torch.Tensor,
        generator: Generators,
        callback: Callback | None,
        tensors: Sequence[str],
        bar: Any,
    ) -> torch.Tensor:
        """The reverse process: masks (B, M, K, H, W) of the members' views, from features (B, V, …) and noise."""
        view_of_member = torch.arange(latents.shape[1]) % features.shape[1]
        condition = features[:, view_of_member].flatten(0, 1)
        predict = partial(self.predict, features=condition)
        x = scale_noise(self.scheduler, latents.flatten(0, 1))
        for i, t in enumerate(self.scheduler.timesteps):
            if self.interrupt:
                continue
            x = denoising_step(self.scheduler, predict, x, i, t, generator)
            x = run_callback(self, callback, tensors, i, t, {"latents": x})["latents"]
            bar.update()
        return x.unflatten(0, latents.shape[:2])

    def _merge_views(self, features: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fractions of the members (B, M, L, H, W) and the probability (B, L, H, W), without the augmentation."""
        fractions, views = masks_to_fractions(masks, self.mask_range), self._tta_views
        for i, view in enumerate(views):
            fractions[:, i :: len(views)] = invert_tta(fractions[:, i :: len(views)], view)
        if self.config["probability_from"] == "samples":
            return fractions, fractions.mean(dim=1)
        logits = [self.unet.prior_logits(each) for each in features.unbind(dim=1)]
        priors = [invert_tta(label_probability(each), view) for each, view in zip(logits, views, strict=True)]
        return fractions, torch.stack(priors).mean(dim=0)

    def _load_slices(self, source: Any) -> Any:
        """Load a subject's scans as slices of the size and spacing of the training images."""
        return subject_to_slices(source, self.modalities, self.config["spacing"], unet_sample_size(self.unet))

    def _restore(
        self, subject: Any, maps: Mapping[str, Any], threshold: float
    ) -> ConditionalSegmentationPipelineOutput:
        """Resample maps of slices to scans on the voxels of the subject's files."""
        names, samples = list(self.id2label.values()), maps["samples"]
        probability = subject.invert(maps["probability"], names, fill=[1] + [0] * (len(names) - 1))
        mask = assign_labels(torch.from_numpy(probability.array), threshold, axis=0).numpy()
        return ConditionalSegmentationPipelineOutput(
            mask=probability.like(mask, "labels"),
            probability=probability,
            uncertainty={name: subject.invert(one[:, None], [name]) for name, one in maps["uncertainty"].items()},
            samples=subject.invert(samples, ["labels"] * samples.shape[1]),
        )
