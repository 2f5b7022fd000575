"""Find anomalies by asking a diffusion model how the same image would look if it were healthy.

Wolleb et al. 2022, "Diffusion models for medical anomaly detection". The image is noised by deterministic DDIM and
denoised again, now with the score of a label added to the model's own; what changed is the anomaly. Or, without a way
there and back, the image is noised a little, some times over, and what is made of it if it is called healthy is
compared with what is made of it if it is not (the mask of Couairon et al. 2023, "DiffEdit").

| symbol | here | shape |
|---|---|---|
| x_0 | the image, in [0, 1] to the user and in `image_range` to the model | (N, C, H, W) |
| L | `strength`, the part of the way to pure noise | |
| x̂_0 | `counterfactual` | (N, C, H, W) |
| s | `guidance_scale` | |
| a | `anomaly_map`, a mean over the channels that there are | (N, H, W) |

    x_L = DDIM-inversion of x_0;    x̂_0 = DDIM of x_L with the guided output
    method "classifier":       ε̂ = ε − σ_t s (H W / 256²) ∇ log p(target | x_t)      (their algorithm 1)
    method "classifier_free":  D̂ = D(x_t) + s (D(x_t, target) − D(x_t))               (Ho and Salimans 2022)
    method "none":             ε̂ = ε: what the model cannot reconstruct is the anomaly

    map_from "change":         a = |x_0 − x̂_0|
    map_from "contrast":       a = E |D(x_t, another label) − D(x_t, target)|, over noises and the times of `TIMES`

The same evidence is spread over as many more pixels as there are, so each pixel's part of the gradient falls as
1/(H W); the factor makes s mean what it does in the paper, whose images have 256² pixels, for every size. It does not
depend on the number of steps, being part of ε̂. Where the classifier is sure that x_t is healthy the gradient vanishes,
and the image returns as it was. In a contrast all that the label says nothing of cancels, the model's own errors
above all, which a change shows; it takes a model that knows labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from .meddiffusers_anomaly_maps_v1 import SMOOTHING, mean_of_present, otsu, slice_scores, smoothed
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

PUBLISHED_AS = "meddiffusers_anomaly_detection_pipeline_v1"  # `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("np", "pt", "pil")
METHODS = ("classifier", "classifier_free", "none")
ENCODINGS = ("inversion", "noise")
MAPS = ("change", "contrast")
SCALES = {"classifier": 100.0, "classifier_free": 3.0, "none": 0.0}  # s by default
PAPER_PIXELS = 256**2  # of the images whose gradient scale s is
TIMES = (0.15, 0.2, 0.25)  # of a contrast, as parts of the way to pure noise: lesions fade, anatomy is still seen


@dataclass
class AnomalyDetectionPipelineOutput(BaseOutput):
    """What is known of N images.

    counterfactual: the images as they would be, in [0, 1]: an array (N, H, W, C), a tensor (N, C, H, W), or for each
        image a list of 8-bit PIL images, one for each modality.
    anomaly_map: (N, H, W), in the unit of the intensities, at least 0.
    mask: (N, H, W) uint8, 1 where the map exceeds the threshold (PIL: mode "L", 255 there).
    score: (N,), by how much the hundredth of the pixels where the map is largest exceeds the head's mean.
    threshold: of the mask.

    For scans, counterfactual, map and mask are each a `Scan` on the voxels of the subject's files, and `score` is that
    of the slices; the largest is that of the volume.
    """

    counterfactual: Any
    anomaly_map: Any
    mask: Any
    score: Any
    threshold: float


class AnomalyDetectionPipeline(UNetLoraMixin, PublishedPipelineMixin, DiffusionPipeline):
    """What is not as in a healthy image.

    unet: a `PatchUNet2DModel` or a `UNet2DModel`.
    scheduler: a `ReversibleDDIMScheduler`.
    classifier: a `NoisyClassifier`, for the method of that name.
    modalities: names of the channels, in their order.
    spacing: edge length in mm of the pixels that the model was trained on; None if unknown. Scans are brought to it.
    image_range: what the intensities 0 and 1 are to the model.

    Raises:
        ValueError: another number of modalities than unet or classifier have channels.
        TypeError: a scheduler that has no inverse.
    """

    model_cpu_offload_seq = "unet->classifier"  # type: ignore[assignment]
    _optional_components = ["classifier"]
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
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, classifier=classifier)
        self.register_to_config(
            modalities=to_indexed(modalities),
            spacing=None if spacing is None else float(spacing),  # diffusers warns of an int when it loads one
            image_range={number: float(end) for number, end in to_indexed(image_range).items()},
        )
        if not hasattr(scheduler, "invert_step"):
            raise TypeError(
                f"The scheduler is a {type(scheduler).__name__}, whose steps have no inverses; expected "
                "ReversibleDDIMScheduler.from_config(scheduler.config)."
            )
        for name, part in (("unet", unet), ("classifier", classifier)):
            if part is not None and part.config["in_channels"] != len(self.modalities):
                raise ValueError(
                    f"The {name} has {part.config['in_channels']} channels; got {len(self.modalities)} modalities "
                    f"({', '.join(self.modalities)}). Give those that it was trained with."
                )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the channels, in their order."""
        return from_indexed(self.config["modalities"])

    @property
    def image_range(self) -> tuple[float, float]:
        """What the intensities 0 and 1 are to the model."""
        return self.config["image_range"]["0"], self.config["image_range"]["1"]

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to end the call early, with the images as they are."""
        return self._interrupt

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
        inversion_rounds: int = 1,
        map_from: str | None = None,
        num_noises: int = 4,
        smoothing: float | None = None,
        batch_size: int = 32,
        generator: torch.Generator | list[torch.Generator] | None = None,
        threshold: float | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> AnomalyDetectionPipelineOutput | tuple[Any, ...]:
        """Look for anomalies in images, or in a subject's scans.

        image: what `check_images` takes; or scans, for which the package meddiffusers must be installed.
        guidance_scale: s; by default 100 of "classifier", 3 of "classifier_free".
        strength: L, in (0, 1].
        num_inference_steps: to the noise, and as many back.
        target: label of what the counterfactual is to be.
        method: "classifier", "classifier_free" or "none"; by default "classifier_free" where the unet knows labels,
            "classifier" where there is one.
        encoding: "inversion", which draws nothing; or "noise": x_L is drawn, as Wyatt et al. 2022 do (AnoDDPM).
        inversion_rounds: network passes for each step to the noise; more bring the image back more exactly.
        map_from: "change" or "contrast"; by default the second where the unet knows labels.
        num_noises: of a contrast, at each of its times.
        smoothing: σ of a Gaussian that the map is smoothed by, as a part of its height; by default 0 of a change, and
            `SMOOTHING` of a contrast.
        batch_size: images that the networks see at once.
        generator: of all noise that is drawn: one for all, or a list of one for each image. Without one the noise of
            a contrast is always the same, and that of every image.
        threshold: of the mask; by default Otsu's, of all pixels of the call that are not black.
        output_type: "np", "pt" or "pil"; scans come back as scans.
        callback_on_step_end: called as `f(pipeline, step, timestep, tensors)` after each step back from the noise.

        Raises:
            ValueError: input that does not fit, before any work, with what to do.
            ImportError: scans without meddiffusers.
        """
        method, map_from = method or self._method(), map_from or self._map()
        self._check_call(method, target, encoding, inversion_rounds, batch_size, output_type)
        self._check_map(map_from, target, num_noises, smoothing)
        self._check_callback(callback_on_step_end_tensor_inputs)
        subject = self._cut(image) if is_subject(image) else None
        images = self.preprocess(image) if subject is None else torch.from_numpy(subject.images)
        x_0 = self._to_model(images)
        noise = self.prepare_latents(len(images), images.shape[2:], generator) if encoding == "noise" else None
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps, device=x_0.device, strength=strength)
        told = self._told(target)
        predict = self._predictor(method, target, SCALES[method] if guidance_scale is None else guidance_scale, told)
        passes = num_inference_steps * (2 if noise is None else 1) + (map_from == "contrast")
        done, changes = [], []
        with self.progress_bar(total=passes * len(x_0.split(batch_size))) as bar:
            for first in range(0, len(x_0), batch_size):
                part = slice(first, first + batch_size)
                x = (
                    self._inverted(x_0[part], told, inversion_rounds, bar)
                    if noise is None
                    else self._noised(x_0, noise)[part]
                )
                x = self._led_back(x, predict, callback_on_step_end, callback_on_step_end_tensor_inputs, bar)
                done.append(self._from_model(x))
                if map_from == "contrast":
                    own = generator[part] if isinstance(generator, list) else generator
                    changes.append(self.contrast(x_0[part], target, num_noises, own))
                    bar.update()
                else:
                    changes.append((images[part] - done[-1]).abs())
        self.maybe_free_model_hooks()
        changed = smoothed(mean_of_present(torch.cat(changes), images), self._smoothing(map_from, smoothing))
        kind = "np" if subject is not None else output_type
        output = self._postprocess(images, torch.cat(done), changed, threshold, kind)
        output = output if subject is None else self._restore(subject, output)
        return output if return_dict else output.to_tuple()

    def contrast(
        self,
        x_0: torch.Tensor,
        target: str,
        num_noises: int = 4,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """How differently images (N, C, H, W) in `image_range` are denoised as `target` and as anything else.

        Returns (N, C, H, W) on the CPU, in the unit of intensities in [0, 1]; of several other labels their mean.
        """
        labels = self._labels("classifier_free")
        others = [number for name, number in labels.items() if name != target]
        generator = generator or [torch.Generator().manual_seed(0) for _ in x_0]  # whichever batch a image is in
        total = torch.zeros_like(x_0, dtype=torch.float32)
        for share in TIMES:
            timestep = torch.tensor(round(share * self.scheduler.config["num_train_timesteps"]) - 1, device=x_0.device)
            for _ in range(num_noises):
                noise = self.prepare_latents(len(x_0), x_0.shape[2:], generator)
                x_t = self.scheduler.add_noise(x_0, noise, timestep.expand(len(x_0)))
                healthy = self._denoised(x_t, timestep, labels[target])
                total += sum((self._denoised(x_t, timestep, other) - healthy).abs() for other in others) / len(others)
        low, high = self.image_range
        return (total / (len(TIMES) * num_noises * (high - low))).cpu()

    def preprocess(self, image: Any) -> torch.Tensor:
        """Images as checked (N, C, H, W) floats in [0, 1]; takes and raises what `check_images` does."""
        return check_images(image, self.modalities, stride_of(self.unet))

    def prepare_latents(
        self, images: int, size: Sequence[int], generator: torch.Generator | list[torch.Generator] | None
    ) -> torch.Tensor:
        """Noise (N, C, H, W), of a generator for each image if a list."""
        if isinstance(generator, list) and len(generator) != images:
            raise ValueError(f"Got {len(generator)} generators for {images} images. Give one for each.")
        return randn_tensor((images, len(self.modalities), *size), generator, self._execution_device, self.unet.dtype)

    def predict(self, latents: torch.Tensor, timestep: Any, label: int | None = None) -> torch.Tensor:
        """The network's prediction, without a learnt variance."""
        labels = () if label is None else (torch.full((len(latents),), label, device=latents.device),)
        return self.unet(latents, timestep, *labels).sample[:, : latents.shape[1]]

    def _denoised(self, x_t: torch.Tensor, timestep: torch.Tensor, label: int) -> torch.Tensor:
        return self.scheduler.denoised(self.predict(x_t, timestep, label), timestep, x_t).float()

    # Checks

    def _check_call(
        self, method: str, target: str, encoding: str, rounds: int, batch_size: int, output_type: str
    ) -> None:
        if method not in METHODS or encoding not in ENCODINGS or output_type not in OUTPUT_TYPES:
            raise ValueError(
                f"Got method={method!r}, encoding={encoding!r} and output_type={output_type!r}; expected one of "
                f"{', '.join(METHODS)}, one of {', '.join(ENCODINGS)}, and one of {', '.join(OUTPUT_TYPES)}."
            )
        if rounds < 1 or batch_size < 1:
            raise ValueError(f"inversion_rounds={rounds} and batch_size={batch_size}; expected at least 1 of each.")
        if method == "classifier" and self.classifier is None:
            raise ValueError("method='classifier' but this pipeline has no classifier. Give it one, or another method.")
        known = self._labels(method)
        if method != "none" and target not in known:
            raise ValueError(f"target={target!r}; expected one of {', '.join(known) or '(none: it knows no labels)'}.")

    def _check_map(self, map_from: str, target: str, num_noises: int, smoothing: float | None) -> None:
        if map_from not in MAPS:
            raise ValueError(f"map_from={map_from!r}; expected one of {', '.join(MAPS)}.")
        if num_noises < 1 or (smoothing or 0) < 0:
            raise ValueError(f"num_noises={num_noises} and smoothing={smoothing}; expected at least 1 and 0.")
        known = self._labels("classifier_free")
        if map_from == "contrast" and (target not in known or len(known) < 2):
            raise ValueError(
                f"map_from='contrast' and target={target!r}; expected one of two or more labels that the unet knows, "
                f"which are: {', '.join(known) or '(none)'}. Take such a target, or map_from='change'."
            )

    def _check_callback(self, tensors: Sequence[str]) -> None:
        unknown = set(tensors) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; there is only latents.")

    # Steps of a call

    def _labels(self, method: str) -> dict[str, int]:
        """Ids by name of the labels that the network of a method knows."""
        network = self.classifier if method == "classifier" else self.unet
        return {name: number for number, name in getattr(network, "id2label", {}).items()}

    def _method(self) -> str:
        """The one that the components allow."""
        if self._labels("classifier_free"):
            return "classifier_free"
        return "none" if self.classifier is None else "classifier"

    def _map(self) -> str:
        """What the unet allows."""
        return "contrast" if len(self._labels("classifier_free")) > 1 else "change"

    def _smoothing(self, map_from: str, given: float | None) -> float:
        return SMOOTHING * (map_from == "contrast") if given is None else given

    def _to_model(self, images: torch.Tensor) -> torch.Tensor:
        low, high = self.image_range
        return (low + (high - low) * images).to(self._execution_device, self.unet.dtype)

    def _from_model(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.image_range
        return ((x.float().cpu() - low) / (high - low)).clamp(0, 1)

    def _told(self, target: str) -> int | None:
        """The label of passes without guidance: none; a `UNet2DModel` with labels must be told one (Wolleb et al.)."""
        return self._labels("classifier").get(target, 0) if self.unet.config.get("num_class_embeds") else None

    def _inverted(self, x: torch.Tensor, told: int | None, rounds: int, bar: Any) -> torch.Tensor:
        """x_L of x_0, by the inverses of the steps that lead back."""
        for timestep in self.scheduler.timesteps.flip(0):
            guess = x
            for _ in range(rounds):
                guess = self.scheduler.invert_step(self.predict(guess, timestep, told), timestep, x, guess).next_sample
            x = guess
            bar.update()
        return x

    def _led_back(
        self,
        x: torch.Tensor,
        predict: Callable[[torch.Tensor, Any], torch.Tensor],
        callback: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None,
        names: Sequence[str],
        bar: Any,
    ) -> torch.Tensor:
        """x̂_0 of x_L."""
        for number, timestep in enumerate(self.scheduler.timesteps):
            if self.interrupt:
                continue
            x = self.scheduler.step(predict(x, timestep), timestep, x).prev_sample
            if callback is not None:
                x = callback(self, number, timestep, dict.fromkeys(names, x)).get("latents", x)
            bar.update()
        return x

    def _noised(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_L of x_0, drawn."""
        return self.scheduler.add_noise(x, noise, self.scheduler.timesteps[:1].expand(len(x)))

    def _predictor(
        self, method: str, target: str, scale: float, told: int | None = None
    ) -> Callable[[torch.Tensor, Any], torch.Tensor]:
        """The guided prediction, a function of x_t and t."""
        label = self._labels(method).get(target, 0)

        def by_classifier(x: torch.Tensor, timestep: Any) -> torch.Tensor:
            predicted, gradient = self.predict(x, timestep, told), self.classifier.gradient(x, timestep, label)
            normalised = scale * x.shape[-1] * x.shape[-2] / PAPER_PIXELS
            return self.scheduler.guided(predicted, timestep, normalised * gradient)

        def classifier_free(x: torch.Tensor, timestep: Any) -> torch.Tensor:
            free = self.predict(x, timestep)
            return free + scale * (self.predict(x, timestep, label) - free)

        if method == "none":
            return partial(self.predict, label=told)
        return by_classifier if method == "classifier" else classifier_free

    def _postprocess(
        self,
        images: torch.Tensor,
        counterfactual: torch.Tensor,
        anomaly: torch.Tensor,
        threshold: float | None,
        output_type: str,
    ) -> AnomalyDetectionPipelineOutput:
        head = (images > 0).any(dim=1)
        threshold = otsu(anomaly[head]) if threshold is None else float(threshold)
        found: dict[str, Any] = {
            "counterfactual": counterfactual,
            "anomaly_map": anomaly,
            "mask": (anomaly > threshold).byte(),
            "score": slice_scores(anomaly, head),
        }
        if output_type != "pt":
            found = {name: tensor.numpy() for name, tensor in found.items()}
            found["counterfactual"] = np.moveaxis(found["counterfactual"], 1, -1)
        if output_type == "pil":
            grey = np.rint(255 * found["counterfactual"]).astype(np.uint8)
            found["counterfactual"] = [[PIL.Image.fromarray(c) for c in np.moveaxis(one, -1, 0)] for one in grey]
            found["mask"] = [PIL.Image.fromarray(255 * mask) for mask in found["mask"]]
        return AnomalyDetectionPipelineOutput(**found, threshold=threshold)

    def _cut(self, source: Any) -> Any:
        """A subject's scans as the slices that the unet takes, which know the way back."""
        return cut_subject(source, self.modalities, self.config["spacing"], size_of(self.unet))

    def _restore(self, subject: Any, output: AnomalyDetectionPipelineOutput) -> AnomalyDetectionPipelineOutput:
        """Maps of slices as scans on the voxels of the subject's files."""
        return AnomalyDetectionPipelineOutput(
            counterfactual=subject.invert(np.moveaxis(output.counterfactual, -1, 1), self.modalities),
            anomaly_map=subject.invert(output.anomaly_map[:, None], ["anomaly"]),
            mask=subject.invert(output.mask[:, None], ["anomaly"]),
            score=output.score,
            threshold=output.threshold,
        )
