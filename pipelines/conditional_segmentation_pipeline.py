"""Segment images by a conditional diffusion model: an ensemble of masks, their mean, and how far they disagree.

Wolleb et al. 2022, "Diffusion models for implicit image segmentation ensembles". The reverse process runs on the mask
alone; the image is looked at in every step and never noised. Each random start gives another plausible mask.

| symbol | here | shape |
|---|---|---|
| b | image in [0, 1], the channels in the order of `modalities` | (N, C, H, W) |
| x_t | noisy masks, `latents`; the M members of one image follow each other | (N·M, K, H, W) |
| y_m | sample m of an image as fractions of each label, background first | (N, M, L, H, W) |
| p | probability, the expectation of y for b | (N, L, H, W) |

A binary mask has K = 1 channel, L > 2 labels have K = L, one-hot. `mask_range` is what 0 and 1 of a mask become.

p is the mean of y_m over the members. A `SegmentationUNet` with an image network knows that expectation without them:
its guess, p(label | b). By the tower rule the two are the same, but for the chance that a mean of few samples has
(Rao–Blackwell); what only the samples tell is how pixels go together.

The members may look at the image in turn in up to four `views`: as it is, mirrored, a pixel further, and both; p is
then the mean of the guesses of all views. A network that was trained on mirrored and moved images is as good at each,
and errs at each a little differently.
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
from .meddiffusers_slices_v1 import (
    check_images,
    cut_subject,
    from_indexed,
    is_subject,
    size_of,
    stride_of,
    to_indexed,
)
from .meddiffusers_unet_lora_v1 import UNetLoraMixin

PUBLISHED_AS = "meddiffusers_conditional_segmentation_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil")
VIEWS = ((False, 0), (True, 0), (False, 1), (True, 1))  # mirrored; moved by so many pixels, down and to the right


@dataclass
class ConditionalSegmentationPipelineOutput(BaseOutput):
    """What is known of N images with M members each and L labels, background first.

    mask: label ids (N, H, W), uint8 (PIL: mode "P").
    probability: (N, L, H, W), sums to 1 over the labels: p of the table above.
    uncertainty: maps (N, H, W) by name. "variance" of the members, ½ Σ_l Var_m(y_ml), for two labels the variance of
        the foreground, in [0, 1/4]; "entropy" of the probability, −Σ_l p_l log p_l, nats.
    samples: label ids of each member, (N, M, H, W), uint8.

    For scans, each of these is a `Scan` on the voxels of the subject's files (N is gone), probability with a channel
    for each label and samples with one for each member.
    """

    mask: Any
    probability: Any
    uncertainty: dict[str, Any]
    samples: Any


class ConditionalSegmentationPipeline(UNetLoraMixin, PublishedPipelineMixin, DiffusionPipeline):
    """Segmentation by an ensemble of denoised masks.

    unet: a `SegmentationUNet`, or a `UNet2DModel` whose input channels are image and noisy mask.
    scheduler: any scheduler of diffusers with `set_timesteps(num_inference_steps)`.
    modalities: names of the image's channels, in their order.
    id2label: names of the labels; 0 is the background.
    spacing: edge length in mm of the pixels that the model was trained on; None if unknown. Scans are brought to it.
    mask_range: what a mask's 0 and 1 are to the model.
    views: in how many ways, from 1 to 4, the members look at an image.

    Raises:
        ValueError: another number of channels or labels than the unet has, or of views than there are.
    """

    model_cpu_offload_seq = "unet"  # type: ignore[assignment]
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
        views: int = 1,
    ) -> None:
        super().__init__()
        labels = to_indexed(id2label or ("background", "lesion"))
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            modalities=to_indexed(modalities),
            id2label=labels,
            spacing=None if spacing is None else float(spacing),  # diffusers warns of an int when it loads one
            mask_range={number: float(end) for number, end in to_indexed(mask_range).items()},
            views=views,
        )
        if not 1 <= views <= len(VIEWS):
            raise ValueError(f"views={views}; expected 1 to {len(VIEWS)}.")
        _check_labels(labels)
        channels = _input_channels(unet)
        if channels != len(self.modalities) + self.mask_channels:
            raise ValueError(
                f"The unet takes {channels} channels of image and mask; {len(self.modalities)} modalities "
                f"({', '.join(self.modalities)}) and {len(labels)} labels make {len(self.modalities)} + "
                f"{self.mask_channels}. Give the modalities and the id2label that it was trained with."
            )

        if getattr(unet, "image_unet", None) is not None:
            self._check_noise()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the image's channels, in their order."""
        return from_indexed(self.config["modalities"])

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the labels by id, background first."""
        return dict(enumerate(from_indexed(self.config["id2label"])))

    @property
    def mask_range(self) -> tuple[float, float]:
        """What a mask's 0 and 1 are to the model."""
        return self.config["mask_range"]["0"], self.config["mask_range"]["1"]

    @property
    def mask_channels(self) -> int:
        """K: 1 for a binary mask, else one for each label."""
        count = len(self.config["id2label"])
        return 1 if count == 2 else count

    @property
    def _views(self) -> tuple[tuple[bool, int], ...]:
        return VIEWS[: self.config["views"]]

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to end the call early, with the masks as they are."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        num_inference_steps: int = 10,
        ensemble_size: int = 5,
        batch_size: int = 32,
        generator: torch.Generator | list[torch.Generator] | None = None,
        threshold: float = 0.5,
        output_type: str = "np",
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> ConditionalSegmentationPipelineOutput | tuple[Any, ...]:
        """Segment images, or a subject's scans.

        image: what `preprocess` takes; or scans, for which the package meddiffusers must be installed: a `Scan`, a list
            or a `Case` of them, `{"flair": scan or path}`, or the path of a file or a subject's folder. Scans are cut
            into axial slices; modalities that are missing are left out.
        num_inference_steps: of the scheduler.
        ensemble_size: M, the number of members.
        batch_size: how many masks are denoised at once; at least the members of one image.
        generator: one for all, or a list of one for each image (slice). With a list, and with one generator and a
            scheduler that draws no noise, the result does not depend on `batch_size`.
        threshold: a pixel is foreground where 1 − p(background) exceeds it; it then has the likeliest other label.
        output_type: "np", "pt", or "pil" for `mask` and `samples` as palette images; scans come back as scans.
        callback_on_step_end: called as `f(pipeline, step, timestep, tensors)` after each step of each batch; what it
            returns replaces the tensors, masks as the members' views are.

        Raises:
            ValueError: input that does not fit, before any work, with what to do.
            ImportError: scans without meddiffusers.
        """
        self._check_call(ensemble_size, batch_size, threshold, output_type, callback_on_step_end_tensor_inputs)
        subject = self._cut(image) if is_subject(image) else None
        images = self.preprocess(image) if subject is None else torch.from_numpy(subject.images)
        self._interrupt = False
        latents = self.prepare_latents(len(images), ensemble_size, images.shape[2:], generator)
        fractions, probability = self._ensemble(
            images.split(max(1, batch_size // ensemble_size)),
            latents.unflatten(0, (-1, ensemble_size)),
            num_inference_steps,
            generator,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
        self.maybe_free_model_hooks()
        if subject is None:
            output = self._postprocess(fractions, probability, threshold, output_type)
        else:
            output = self._restore(subject, self._postprocess(fractions, probability, threshold, "np"), threshold)
        return output if return_dict else output.to_tuple()

    def preprocess(self, image: Any) -> torch.Tensor:
        """Images as checked (N, C, H, W) floats in [0, 1]; takes and raises what `check_images` does."""
        return check_images(image, self.modalities, stride_of(self.unet))

    def prepare_latents(
        self,
        images: int,
        ensemble_size: int,
        size: Sequence[int],
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> torch.Tensor:
        """Noise (N·M, K, H, W), the M members of one image after each other; a generator for each image if a list."""
        if isinstance(generator, list) and len(generator) != images:
            raise ValueError(f"Got {len(generator)} generators for {images} images. Give one for each image.")
        shape = (ensemble_size, self.mask_channels, *size)
        generators = generator if isinstance(generator, list) else [generator] * images
        device, dtype = self._execution_device, self.unet.dtype
        return torch.cat([randn_tensor(shape, one, device, dtype) for one in generators])

    @torch.no_grad()
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """What of (N, C, H, W) the network needs in each step: features, or, of a `UNet2DModel`, the image itself."""
        images = images.to(self.unet.dtype)
        return self.unet.encode_image(images) if hasattr(self.unet, "encode_image") else images

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, timestep: Any, features: torch.Tensor) -> torch.Tensor:
        """The network's prediction for noisy masks (n·N, K, H, W); a learnt variance only where it is made use of."""
        if hasattr(self.unet, "encode_image"):
            predicted = self.unet(latents, timestep, features=features).sample
        else:
            repeated = features.repeat_interleave(len(latents) // len(features), dim=0)
            predicted = self.unet(torch.cat([repeated, latents], dim=1), timestep).sample
        # an attribute of schedulers that read it; their configuration may just have come down from another's
        learnt = vars(self.scheduler).get("variance_type") in ("learned", "learned_range")
        return predicted if learnt else predicted[:, : latents.shape[1]]

    # Checks

    def _check_noise(self) -> None:
        """Whether scheduler and masks are those that an image network goes with."""
        kind = self.scheduler.config.get("prediction_type", "epsilon")
        if kind != "sample" or self.mask_range != (-1, 1):
            raise ValueError(
                f"A unet with an image network predicts x_0 of masks in (-1, 1); got a scheduler with "
                f"prediction_type={kind!r} and mask_range={self.mask_range}. Make the scheduler with "
                "prediction_type='sample', or from the configuration of the one it came with."
            )
        noise = getattr(self.scheduler, "alphas_cumprod", torch.zeros(0))
        if noise.shape != self.unet.alphas_cumprod.shape or not torch.allclose(noise, self.unet.alphas_cumprod):
            raise ValueError(
                "A unet with an image network knows from the timestep how much noise there is; got a scheduler with "
                "other betas. Make it from the configuration of the one that the unet came with."
            )

    def _check_call(
        self, ensemble_size: int, batch_size: int, threshold: float, output_type: str, tensors: Sequence[str]
    ) -> None:
        if ensemble_size < 1 or batch_size < 1:
            raise ValueError(f"ensemble_size={ensemble_size} and batch_size={batch_size}; expected at least 1 of each.")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold={threshold}; expected a probability, at least 0 and less than 1.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type={output_type!r} is unknown. Expected one of {', '.join(OUTPUT_TYPES)}.")
        unknown = set(tensors) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; there is only latents.")

    # Steps of a call

    def _ensemble(
        self,
        images: Sequence[torch.Tensor],
        latents: torch.Tensor,
        steps: int,
        generator: torch.Generator | list[torch.Generator] | None,
        callback: Callable[..., dict[str, Any]] | None,
        tensors: Sequence[str],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fractions (N, M, L, H, W) of the members and the probability (N, L, H, W), of images in parts."""
        done, members = [], latents.shape[1]
        self.scheduler.set_timesteps(steps, device=latents.device)
        with self.progress_bar(total=len(images) * len(self.scheduler.timesteps)) as bar:
            for first, part in zip(np.cumsum([0, *map(len, images)]), images, strict=False):
                own, drawn = slice(first, first + len(part)), generator
                if isinstance(generator, list):
                    drawn = [one for one in generator[own] for _ in range(members)]
                part = part.to(latents.device)
                views = torch.stack([_seen(part, view) for view in self._views], dim=1)  # (n, V, C, H, W)
                features = self.encode_image(views.flatten(0, 1)).unflatten(0, views.shape[:2])
                self.scheduler.set_timesteps(steps, device=latents.device)  # forgets what the last part left
                masks = self._denoise(features, latents[own], drawn, callback, tensors, bar)
                done.append(self._merged(features, masks))
        fractions, probability = (torch.cat(parts) for parts in zip(*done, strict=True))
        return fractions, probability

    def _denoise(
        self,
        features: torch.Tensor,
        latents: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None,
        callback: Callable[..., dict[str, Any]] | None,
        tensors: Sequence[str],
        bar: Any,
    ) -> torch.Tensor:
        """The reverse process: masks (n, M, K, H, W), each as its view is, of features (n, V, …) and noise."""
        turns = torch.arange(latents.shape[1]) % features.shape[1]
        check_scan = features[:, turns].flatten(0, 1)
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        x = latents.flatten(0, 1) * self.scheduler.init_noise_sigma
        for number, timestep in enumerate(self.scheduler.timesteps):
            if self.interrupt:
                continue
            predicted = self.predict(self.scheduler.scale_model_input(x, timestep), timestep, check_scan)
            x = self.scheduler.step(predicted, timestep, x, **extra).prev_sample
            if callback is not None:
                x = callback(self, number, timestep, dict.fromkeys(tensors, x)).get("latents", x)
            bar.update()
        return x.unflatten(0, latents.shape[:2])

    def _merged(self, features: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fractions of the members, and the probability, as the images are."""
        fractions, views = self._fractions(masks), self._views
        for number, view in enumerate(views):
            fractions[:, number :: len(views)] = _unseen(fractions[:, number :: len(views)], view)
        if getattr(self.unet, "image_unet", None) is None:
            return fractions, fractions.mean(dim=1)
        guesses = [self.unet.guess(each) for each in features.unbind(dim=1)]
        seen = [_unseen(_probability(guess), view) for guess, view in zip(guesses, views, strict=True)]
        return fractions, torch.stack(seen).mean(dim=0)

    def _fractions(self, masks: torch.Tensor) -> torch.Tensor:
        """Masks (N, M, K, H, W) in `mask_range` as fractions (N, M, L, H, W) of the labels, which sum to 1."""
        low, high = self.mask_range
        fractions = ((masks.float() - low) / (high - low)).clamp(0, 1)
        if self.mask_channels == 1:
            return torch.cat([1 - fractions, fractions], dim=2)
        total = fractions.sum(dim=2, keepdim=True)
        return torch.where(total > 0, fractions / total, 1 / self.mask_channels)

    def _postprocess(
        self, fractions: torch.Tensor, probability: torch.Tensor, threshold: float, output_type: str
    ) -> ConditionalSegmentationPipelineOutput:
        variance = 0.5 * (fractions - fractions.mean(dim=1, keepdim=True)).square().mean(dim=1).sum(dim=1)
        entropy = -(probability * probability.clamp_min(1e-12).log()).sum(dim=1)
        maps: dict[str, Any] = {"probability": probability, "variance": variance, "entropy": entropy}
        labels: dict[str, Any] = {"mask": _labels(probability, threshold), "samples": _labels(fractions, threshold)}
        if output_type != "pt":
            maps = {name: tensor.cpu().numpy() for name, tensor in maps.items()}
            labels = {name: tensor.cpu().numpy() for name, tensor in labels.items()}
        if output_type == "pil":
            samples = [[_palette_image(member) for member in image] for image in labels["samples"]]
            labels = {"mask": [_palette_image(mask) for mask in labels["mask"]], "samples": samples}
        uncertainty = {"variance": maps["variance"], "entropy": maps["entropy"]}
        return ConditionalSegmentationPipelineOutput(
            mask=labels["mask"], probability=maps["probability"], uncertainty=uncertainty, samples=labels["samples"]
        )

    def _cut(self, source: Any) -> Any:
        """A subject's scans as the slices that the unet takes, which know the way back."""
        return cut_subject(source, self.modalities, self.config["spacing"], size_of(self.unet))

    def _restore(
        self, subject: Any, output: ConditionalSegmentationPipelineOutput, threshold: float
    ) -> ConditionalSegmentationPipelineOutput:
        """Maps of slices as scans on the voxels of the subject's files."""
        names = list(self.id2label.values())
        probability = subject.invert(output.probability, names, fill=[1] + [0] * (len(names) - 1))
        mask = _labels(torch.from_numpy(probability.array), threshold, axis=0).numpy()
        samples = subject.invert(output.samples, ["labels"] * output.samples.shape[1])
        return ConditionalSegmentationPipelineOutput(
            mask=probability.like(mask, "labels"),
            probability=probability,
            uncertainty={name: subject.invert(maps[:, None], [name]) for name, maps in output.uncertainty.items()},
            samples=samples,
        )


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) < 2 or set(labels) != {str(number) for number in range(len(labels))}:
        raise ValueError(
            f"id2label has the ids {', '.join(labels)}; expected 0 (the background), 1 and so on, at least two."
        )


def _input_channels(unet: Any) -> int:
    """Of image and mask together."""
    if hasattr(unet, "encode_image"):
        return unet.config["image_channels"] + unet.config["mask_channels"]
    return unet.config["in_channels"]


def _seen(images: torch.Tensor, view: tuple[bool, int]) -> torch.Tensor:
    """(…, H, W) in a view; what is moved over the edge comes in at the other, where images are empty."""
    mirrored, moved = view
    images = images.roll((moved, moved), dims=(-2, -1)) if moved else images
    return images.flip(-1) if mirrored else images


def _unseen(maps: torch.Tensor, view: tuple[bool, int]) -> torch.Tensor:
    """(…, H, W) of a view as the images are."""
    mirrored, moved = view
    maps = maps.flip(-1) if mirrored else maps
    return maps.roll((-moved, -moved), dims=(-2, -1)) if moved else maps


def _probability(logits: torch.Tensor) -> torch.Tensor:
    """(N, L, H, W) of logits (N, K, H, W)."""
    logits = logits.float()
    return (torch.cat([-logits, logits], dim=1) / 2 if logits.shape[1] == 1 else logits).softmax(dim=1)


def _labels(probability: torch.Tensor, threshold: float, axis: int = -3) -> torch.Tensor:
    """Label ids of probabilities with the labels along an axis: the likeliest but 0 where 1 − p_0 > threshold."""
    # max rather than argmax, which is slow along an axis that is not the last
    likeliest = probability.narrow(axis, 1, probability.shape[axis] - 1).max(dim=axis).indices + 1
    return torch.where(1 - probability.select(axis, 0) > threshold, likeliest, 0).byte()


def _palette_image(labels: np.ndarray) -> PIL.Image.Image:
    """Label map (H, W) as a PIL image that keeps the labels and shows them in colours."""
    image = PIL.Image.fromarray(labels)
    image.putpalette([0, 0, 0, 230, 75, 60, 70, 130, 230, 250, 200, 60, 90, 200, 120, 180, 90, 200, 80, 200, 220])
    return image
