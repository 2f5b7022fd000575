"""Detect anomalies by comparing an image with its healthy counterfactual, or a model's predictions with both labels.

Wolleb et al. 2022, "Diffusion models for medical anomaly detection": deterministic DDIM encodes the image as noise and
decodes it again with guidance towards the target label. The residual is the anomaly map. Alternatively the image is
noised a little several times, and the model's prediction of the clean image given the target label is compared with
that given another label (as for the mask of Couairon et al. 2023, "DiffEdit").

| symbol | here | shape |
|---|---|---|
| x_0 | the image, in [0, 1] for the user and in `image_range` for the model | (B, C, H, W) |
| L | `strength`, how far the image is noised, 1 is pure noise | |
| x̂_0 | `counterfactual` | (B, C, H, W) |
| s | `guidance_scale` | |
| a | `anomaly_map`, a mean over the modalities that are present | (B, H, W) |

    x_L = DDIM inversion of x_0;    x̂_0 = DDIM sampling from x_L with the guided output
    method "classifier":       ε̂ = ε − σ_t s (H W / 256²) ∇ log p(target | x_t)      (their algorithm 1)
    method "classifier_free":  D̂ = D(x_t) + s (D(x_t, target) − D(x_t))               (Ho and Salimans 2022)
    method "none":             ε̂ = ε: what the model cannot reconstruct is the anomaly

    map_from "residual":       a = |x_0 − x̂_0|
    map_from "label_contrast": a = E |D(x_t, another label) − D(x_t, target)|, over noises and `CONTRAST_TIMES`

The classifier's evidence is spread over H W pixels, so each pixel's part of the gradient falls as 1/(H W). The factor
gives s the same meaning as in the paper, whose images have 256² pixels, for every image size. Where the classifier is
certain that x_t is healthy the gradient vanishes, and the image is reconstructed unchanged. A label contrast cancels
everything that does not depend on the label, in particular the model's own errors, which remain in a residual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from .meddiffusers_anomaly_maps_v1 import (
    DEFAULT_SMOOTHING,
    check_components,
    check_map,
    check_method,
    check_settings,
    convert_results,
    mean_over_modalities,
    restore,
    smooth,
    threshold_maps,
)
from .meddiffusers_checks_v1 import check_callback, check_counts, check_finite, check_generators
from .meddiffusers_denoising_v1 import Callback, GuidanceMixin, guide, run_callback
from .meddiffusers_lora_weights_v1 import LoraWeightsMixin
from .meddiffusers_noise_v1 import denoising_step, describe_noise
from .meddiffusers_sampling_v1 import check_scheduler
from .meddiffusers_saving_v1 import PublishedPipelineMixin
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

PUBLISHED_AS = "meddiffusers_anomaly_detection_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil", "latent")
METHODS = ("classifier", "classifier_free", "none")
ENCODINGS = ("inversion", "noise")
GUIDANCE_SCALES = {"classifier": 100.0, "classifier_free": 3.0, "none": 0.0}  # defaults
PAPER_PIXELS = 256**2  # of the images for which the paper states s
CONTRAST_TIMES = (0.15, 0.2, 0.25)  # as parts of the noise process: lesions fade, anatomy is still visible
Predictor = Callable[[torch.Tensor, Any], torch.Tensor]  # of x_t and t


@dataclass
class AnomalyDetectionPipelineOutput(BaseOutput):
    """Anomalies of B images.

    For scans `counterfactual`, `anomaly_map` and `mask` are each a `Scan` on the voxels of the subject's files, and
    `score` has one value for each slice; the maximum is the score of the volume.

    Args:
        counterfactual: Healthy counterfactuals in [0, 1]: an array (B, H, W, C), a tensor (B, C, H, W), or for each
            image a list of 8-bit PIL images, one for each modality; of "latent" a tensor in `image_range`, not clipped.
        anomaly_map: (B, H, W), in units of intensity, at least 0.
        mask: (B, H, W) uint8, 1 where the map exceeds the threshold (PIL: mode "L", 255 there).
        score: (B,), how far the highest 1 % of the map exceeds the mean of the foreground.
        threshold: Threshold of the mask.
    """

    counterfactual: Any
    anomaly_map: Any
    mask: Any
    score: Any
    threshold: float


class AnomalyDetectionPipeline(
    LoraWeightsMixin, UNetLoraMixin, GuidanceMixin, PublishedPipelineMixin, DiffusionPipeline
):
    """Detect what differs from a healthy image.

    Args:
        unet: A `PatchUNet2DModel` or a `UNet2DModel`.
        scheduler: A `ReversibleDDIMScheduler`.
        classifier: A `NoisyClassifier`, for the method "classifier".
        modalities: Names of the channels, in order.
        spacing: Edge length in mm of the pixels of the training images, to which scans are resampled; None if unknown.
        image_range: Values of the model for the intensities 0 and 1.
        noise_schedule: The noise that the unet was trained with, see `describe_noise`; by default that of `scheduler`.
            Each call compares the scheduler with it.

    Raises:
        ValueError: If unet or classifier have another number of channels than there are modalities.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("examples/checkpoints/anomaly-ddim-brain")
        >>> maps = pipe(images).anomaly_map  # images: (B, 4, 96, 96) in [0, 1]
    """

    model_cpu_offload_seq = "unet->classifier"  # type: ignore[assignment]
    _optional_components = ["scheduler", "classifier"]
    _callback_tensor_inputs = ["latents"]
    _adaptable = "PatchUNet2DModel.from_unet(pipe.unet)"
    unet: Any  # set by register_modules
    classifier: Any
    scheduler: Any

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        classifier: ModelMixin | None = None,
        modalities: Any = ("t1", "t1ce", "t2", "flair"),
        spacing: float | None = None,
        image_range: Any = (-1.0, 1.0),
        noise_schedule: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, classifier=classifier)
        self.register_to_config(
            modalities=to_indexed(modalities),
            spacing=to_spacing(spacing),
            image_range={index: float(end) for index, end in to_indexed(image_range).items()},
            noise_schedule=describe_noise(scheduler) if noise_schedule is None else noise_schedule,
        )
        check_components(unet, classifier, self.modalities)

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
        image: Any,
        guidance_scale: float | None = None,
        strength: float = 0.5,
        num_inference_steps: int = 50,
        target: str = "healthy",
        method: str | None = None,
        encoding: str = "inversion",
        num_inversion_iterations: int = 1,
        map_from: str | None = None,
        num_noise_samples: int = 4,
        smoothing: float | None = None,
        batch_size: int = 32,
        generator: Generators = None,
        threshold: float | None = None,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> AnomalyDetectionPipelineOutput | tuple[Any, ...]:
        """Detect anomalies in images, or in the scans of a subject.

        Args:
            image: What `check_images` takes; or scans, which require the package meddiffusers.
            guidance_scale: s; by default 100 for "classifier" and 3 for "classifier_free".
            strength: L, in (0, 1].
            num_inference_steps: Number of steps to the noise, and of steps back.
            target: Label of the counterfactual.
            method: "classifier", "classifier_free" or "none"; by default "classifier_free" if the unet has labels,
                otherwise "classifier" if there is one.
            encoding: "inversion", which is deterministic, or "noise": x_L is sampled (AnoDDPM, Wyatt et al. 2022).
            num_inversion_iterations: Fixed-point iterations of each step to the noise, each one network pass.
            map_from: "residual" or "label_contrast"; by default the second if the unet has labels.
            num_noise_samples: Noises for a label contrast, at each of `CONTRAST_TIMES`.
            smoothing: σ of the map's Gaussian filter as a part of its height; by default 0, 1/32 for a label contrast.
            batch_size: Number of images that the networks process at once; it bounds the memory and changes no result.
            generator: One for all images, or a list of one for each; by default a label contrast has fixed noise.
            threshold: Threshold of the mask; by default Otsu's, over the foreground of all images.
            output_type: "np", "pt" (on the CPU), "pil" or "latent", see the output; scans are returned as scans.
            callback_on_step_end: Called as `f(pipeline, step, timestep, tensors)` after each step; returns new tensors.
            callback_on_step_end_tensor_inputs: Names of the tensors that the callback gets; there is only "latents".
            return_dict: Return an [`AnomalyDetectionPipelineOutput`] instead of a tuple.

        Raises:
            ValueError: If an input does not fit, before any computation; the message says what to do.
            ImportError: If scans are given and the package meddiffusers is not installed.
        """
        method, map_from = method or self._default_method(), map_from or self._default_map()
        check_scheduler(self.scheduler, self.config["noise_schedule"], num_inference_steps, reversible=True)
        self._check_call(method, target, encoding, num_inversion_iterations, batch_size, output_type)
        check_settings(strength, guidance_scale, threshold)
        check_map(map_from, target, self._labels("classifier_free"), num_noise_samples, smoothing)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        subject = self._load_slices(image) if is_subject(image) else None
        images = self.preprocess(image) if subject is None else torch.from_numpy(subject.images)
        check_generators(generator, len(images))
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device, strength=strength)
        self._interrupt, self._num_timesteps = False, len(self.scheduler.timesteps)
        scale = GUIDANCE_SCALES[method] if guidance_scale is None else guidance_scale
        unguided_label = self._unguided_label(target)
        predict = self._guided_predictor(method, target, unguided_label)
        smoothing = DEFAULT_SMOOTHING[map_from] if smoothing is None else smoothing
        shape, inverted, contrasted = images.shape[1:], encoding == "inversion", map_from == "label_contrast"
        encoding_noise = None if inverted else reserve_noise(generator, len(images), shape, self.unet.dtype)
        contrast_noise = self._contrast_noise(generator, images, num_noise_samples) if contrasted else []
        passes = num_inference_steps * (1 + inverted) + contrasted
        latents, maps = [], []
        with self.progress_bar(total=passes * len(images.split(batch_size))) as bar:
            for first in range(0, len(images), batch_size):
                own = slice(first, first + batch_size)
                x_0 = self._to_model(images[own])
                if inverted:
                    x = self._ddim_invert(x_0, unguided_label, num_inversion_iterations, bar)
                else:
                    x = self._add_noise(x_0, select_generators(encoding_noise, own))
                self._guidance_scale = scale  # a callback may have changed it for the batch before
                x = self._denoise(x, predict, callback_on_step_end, callback_on_step_end_tensor_inputs, bar)
                latents.append(x.cpu())
                if contrasted:
                    generators = [select_generators(one, own) for one in contrast_noise]
                    difference = self._label_contrast(x_0, target, generators)
                    bar.update()
                else:
                    difference = (images[own] - self._from_model(x)).abs()
                maps.append(smooth(mean_over_modalities(difference, images[own]), smoothing))
        self.maybe_free_model_hooks()
        as_latents = output_type == "latent" and subject is None
        counterfactual = torch.cat(latents) if as_latents else self._from_model(torch.cat(latents))
        results = threshold_maps(images, counterfactual, torch.cat(maps), threshold)
        results = (
            convert_results(results, output_type) if subject is None else restore(subject, results, self.modalities)
        )
        output = AnomalyDetectionPipelineOutput(**results)
        return output if return_dict else output.to_tuple()

    def preprocess(self, image: Any) -> torch.Tensor:
        """Convert images to checked (B, C, H, W) floats in [0, 1]; takes and raises what `check_images` does."""
        return check_images(image, self.modalities, unet_stride(self.unet))

    def prepare_latents(self, num_images: int, size: Sequence[int], generator: Generators) -> torch.Tensor:
        """Draw unit noise (B, C, H, W), with one generator for all images or a list of one for each."""
        shape = (len(self.modalities), *size)
        return draw_noise(num_images, shape, generator, self._execution_device, self.unet.dtype)

    def predict(self, latents: torch.Tensor, timestep: Any, label: int | None = None) -> torch.Tensor:
        """Predict from noisy images (B, C, H, W), without a learned variance."""
        labels = () if label is None else (torch.full((len(latents),), label, device=latents.device),)
        return self.unet(latents, timestep, *labels).sample[:, : latents.shape[1]]

    # Checks

    def _check_call(
        self, method: str, target: str, encoding: str, iterations: int, batch_size: int, output_type: str
    ) -> None:
        if method not in METHODS or encoding not in ENCODINGS or output_type not in OUTPUT_TYPES:
            raise ValueError(
                f"Got method={method!r}, encoding={encoding!r} and output_type={output_type!r}; expected one of "
                f"{', '.join(METHODS)}, one of {', '.join(ENCODINGS)}, and one of {', '.join(OUTPUT_TYPES)}."
            )
        check_counts(num_inversion_iterations=iterations, batch_size=batch_size)
        check_method(method, target, self._labels(method), self.classifier)

    # Steps of a call

    def _labels(self, method: str) -> dict[str, int]:
        """Ids by name of the labels of the network that a method uses."""
        network = self.classifier if method == "classifier" else self.unet
        return {name: index for index, name in getattr(network, "id2label", {}).items()}

    def _default_method(self) -> str:
        without_labels = "none" if self.classifier is None else "classifier"
        return "classifier_free" if self._labels("classifier_free") else without_labels

    def _default_map(self) -> str:
        return "label_contrast" if len(self._labels("classifier_free")) > 1 else "residual"

    def _to_model(self, images: torch.Tensor) -> torch.Tensor:
        low, high = self.image_range
        return (low + (high - low) * images).to(self._execution_device, self.unet.dtype)

    def _from_model(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.image_range
        return ((x.float().cpu() - low) / (high - low)).clamp(0, 1)

    def _unguided_label(self, target: str) -> int | None:
        """Label of passes without guidance: none, except for a `UNet2DModel` with labels, which requires one."""
        return self._labels("classifier").get(target, 0) if self.unet.config.get("num_class_embeds") else None

    def _ddim_invert(self, x: torch.Tensor, label: int | None, iterations: int, bar: Any) -> torch.Tensor:
        """Compute x_L from x_0 with the inverses of the denoising steps."""
        for i, t in enumerate(self.scheduler.timesteps.flip(0)):
            estimate = x
            for _ in range(iterations):
                predicted = self.predict(estimate, t, label)
                check_finite(predicted, "unet", f"inversion step {i + 1} of {self.num_timesteps} (timestep {int(t)})")
                estimate = self.scheduler.invert_step(predicted, t, x, estimate).next_sample
            x = estimate
            bar.update()
        return x

    def _add_noise(self, x: torch.Tensor, generator: Generators) -> torch.Tensor:
        """Sample x_L given x_0."""
        noise = self.prepare_latents(len(x), x.shape[2:], generator)
        return self.scheduler.add_noise(x, noise, self.scheduler.timesteps[:1].expand(len(x)))

    def _denoise(
        self, x: torch.Tensor, predict: Predictor, callback: Callback | None, names: Sequence[str], bar: Any
    ) -> torch.Tensor:
        """Compute x̂_0 from x_L."""
        for i, t in enumerate(self.scheduler.timesteps):
            if self.interrupt:
                continue
            x = denoising_step(self.scheduler, predict, x, i, t)
            x = run_callback(self, callback, names, i, t, {"latents": x})["latents"]
            bar.update()
        return x

    def _guided_predictor(self, method: str, target: str, unguided_label: int | None) -> Predictor:
        """Return the prediction as a function of x_t and t, guided by the scale at the time."""
        label = self._labels(method).get(target, 0)

        def classifier_guidance(x: torch.Tensor, timestep: Any) -> torch.Tensor:
            predicted = self.predict(x, timestep, unguided_label)
            gradient = self.classifier.gradient(x, timestep, label)
            check_finite(gradient, "classifier", f"the step at timestep {int(timestep)}")
            normalised = self.guidance_scale * x.shape[-1] * x.shape[-2] / PAPER_PIXELS
            return self.scheduler.add_guidance(predicted, timestep, normalised * gradient)

        def classifier_free_guidance(x: torch.Tensor, timestep: Any) -> torch.Tensor:
            return guide(self.predict(x, timestep), self.predict(x, timestep, label), self.guidance_scale)

        if method == "none":
            return partial(self.predict, label=unguided_label)
        return classifier_guidance if method == "classifier" else classifier_free_guidance

    def _contrast_noise(self, generator: Generators, images: torch.Tensor, num_noise_samples: int) -> list[Generators]:
        """Generators of each noise of a label contrast; without a generator all images have the same fixed noise."""
        generator = generator or [torch.Generator().manual_seed(0) for _ in images]
        draws = len(CONTRAST_TIMES) * num_noise_samples
        return [reserve_noise(generator, len(images), images.shape[1:], self.unet.dtype) for _ in range(draws)]

    def _label_contrast(self, x_0: torch.Tensor, target: str, generators: Sequence[Generators]) -> torch.Tensor:
        """Mean absolute difference of the predictions of x_0 given `target` and given the other labels.

        Returns (B, C, H, W) on the CPU, in [0, 1]. `generators` has one for each noise, as many for each of the times.
        """
        labels = self._labels("classifier_free")
        others = [index for name, index in labels.items() if name != target]
        total = torch.zeros_like(x_0, dtype=torch.float32)
        for i, generator in enumerate(generators):
            time = CONTRAST_TIMES[i * len(CONTRAST_TIMES) // len(generators)]
            timestep = torch.tensor(round(time * self.scheduler.config["num_train_timesteps"]) - 1, device=x_0.device)
            noise = self.prepare_latents(len(x_0), x_0.shape[2:], generator)
            x_t = self.scheduler.add_noise(x_0, noise, timestep.expand(len(x_0)))
            healthy = self._predict_x0(x_t, timestep, labels[target])
            total += sum((self._predict_x0(x_t, timestep, other) - healthy).abs() for other in others) / len(others)
        low, high = self.image_range
        return (total / (len(generators) * (high - low))).cpu()

    def _predict_x0(self, x_t: torch.Tensor, timestep: torch.Tensor, label: int) -> torch.Tensor:
        predicted = self.predict(x_t, timestep, label)
        check_finite(predicted, "unet", f"the step of the label contrast at timestep {int(timestep)}")
        return self.scheduler.predict_original_sample(predicted, timestep, x_t).float()

    def _load_slices(self, source: Any) -> Any:
        """Load a subject's scans as slices of the size and spacing of the training images."""
        return subject_to_slices(source, self.modalities, self.config["spacing"], unet_sample_size(self.unet))
