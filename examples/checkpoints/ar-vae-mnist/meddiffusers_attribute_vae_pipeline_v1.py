"""Encode, decode, sample, interpolate and edit images by attribute with an attribute-regularised VAE (AR-VAE).

Images may be PIL, numpy (H, W), (H, W, C), (B, H, W) or (B, H, W, C), torch (C, H, W) or (B, C, H, W), or a list of
one kind. Integer images are scaled by the range of their type (uint8: 255, uint16: 65535) to the model's `value_range`;
floating-point images must already lie in it. For a categorical model images are label maps without a channel axis.

`output_type`: "pil" (8 bit; label maps in mode "P"), "np" (B, H, W, C) in `value_range` or labels (B, H, W),
"pt" (B, C, H, W) or labels (B, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from .meddiffusers_saving_v1 import PublishedPipelineMixin

PUBLISHED_AS = "meddiffusers_attribute_vae_pipeline_v1"  # the `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("pil", "np", "pt")
Image = PIL.Image.Image | np.ndarray | torch.Tensor | Sequence[PIL.Image.Image | np.ndarray | torch.Tensor]


@dataclass
class AttributeVAEPipelineOutput(BaseOutput):
    """`images` in the asked `output_type`; `latents` (B, K) they were decoded from."""

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    latents: torch.Tensor


class AttributeVAEPipeline(PublishedPipelineMixin, DiffusionPipeline):
    """Pipeline around an [`AttributeVAE`]. Calling it samples images.

    Latents are drawn from N(0, I), or, where the model keeps the moments of its training latents, from that Gaussian.
    """

    model_cpu_offload_seq = "vae"  # type: ignore[assignment]
    vae: Any  # set by register_modules

    def __init__(self, vae: ModelMixin) -> None:
        super().__init__()
        if "latent_dim" not in getattr(vae, "config", {}):
            raise TypeError(f"vae is a {type(vae).__name__}; expected an AttributeVAE, whose config has a latent_dim.")
        self.register_modules(vae=vae)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes; attribute r is latent dimension r."""
        return tuple(self.vae.config["attributes"])

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> AttributeVAEPipelineOutput | tuple[Any, torch.Tensor]:
        """Sample `batch_size` images, or decode the given `latents` (B, K).

        generator: one for the batch, or a list of one for each image. Raises ValueError if these are too few or many.
        """
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(f"Got {len(generator)} generators for batch_size={batch_size}. Give one for each image.")
        if latents is None:
            shape = (batch_size, self.vae.config["latent_dim"])
            noise = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.vae.dtype)
            latents = self.vae.from_standard_normal(noise)
        output = self.decode(latents, output_type=output_type)
        return output if return_dict else (output.images, output.latents)

    def sample(
        self,
        n: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
    ) -> AttributeVAEPipelineOutput:
        """`n` images decoded from random latents, as calling the pipeline does."""
        return self(batch_size=n, generator=generator, output_type=output_type)  # type: ignore[return-value]

    def preprocess(self, images: Image) -> torch.Tensor:
        """Images of any accepted kind as checked (B, C, H, W) floats in `value_range`, label maps one-hot.

        Raises:
            TypeError: not images.
            ValueError: no image, NaN, another size or channel count than the model's, values outside its range.
        """
        items = list(images) if isinstance(images, (list, tuple)) else [images]
        if not items:
            raise ValueError("Got an empty list of images, expected at least one image.")
        config, size = self.vae.config, self.vae.image_size
        if config["likelihood"] == "categorical":
            return torch.cat([_one_hot(_label_maps(item), config["in_channels"], size) for item in items])
        shape = (config["in_channels"], *size)
        return torch.cat([_to_range(_intensities(item, shape), *config["value_range"]) for item in items])

    @torch.no_grad()
    def encode(self, images: Image) -> torch.Tensor:
        """Posterior means (B, K) of images; raises as `preprocess` does."""
        pixels = self.preprocess(images).to(self._execution_device, self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode()
        self.maybe_free_model_hooks()
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, output_type: str = "pil") -> AttributeVAEPipelineOutput:
        """Images E[x | z] of latents z (B, K).

        Raises:
            ValueError: another number of latent dimensions than the model's, NaN, an unknown `output_type`, or "pil"
                for intensity images of neither 1 nor 3 channels.
        """
        self._check_output_type(output_type)
        dimensions = self.vae.config["latent_dim"]
        if latents.ndim != 2 or latents.shape[1] != dimensions or not torch.isfinite(latents).all():
            raise ValueError(f"Got latents of shape {tuple(latents.shape)}, expected finite values (B, {dimensions}).")
        latents = latents.to(self._execution_device, self.vae.dtype)
        pixels = self.vae.expectation(self.vae.decode(latents).sample)
        self.maybe_free_model_hooks()
        return AttributeVAEPipelineOutput(images=self._postprocess(pixels, output_type), latents=latents)

    def reconstruct(self, images: Image, output_type: str = "pil") -> AttributeVAEPipelineOutput:
        """Images decoded from their own posterior means."""
        return self.decode(self.encode(images), output_type=output_type)

    def interpolate(
        self, a: Image, b: Image, steps: int = 8, method: str = "linear", output_type: str = "pil"
    ) -> AttributeVAEPipelineOutput:
        """`steps` images from image `a` to image `b`, both ends included.

        method: "linear", (1−t)·z_a + t·z_b, or "spherical", along the great circle between them with the length
        interpolated, which stays where N(0, I) has its mass.
        """
        paths: dict[str, Callable[..., torch.Tensor]] = {"linear": torch.lerp, "spherical": _slerp}
        if method not in paths:
            raise ValueError(f"method={method!r} is unknown. Expected one of {', '.join(paths)}.")
        start, end = self._encode_one(a).float(), self._encode_one(b).float()
        fractions = torch.linspace(0, 1, steps, device=start.device)[:, None]
        return self.decode(paths[method](start, end, fractions), output_type=output_type)

    def traverse(
        self,
        image: Image,
        attribute: str,
        range: tuple[float, float] | None = None,
        steps: int = 9,
        output_type: str = "pil",
    ) -> AttributeVAEPipelineOutput:
        """The image with `attribute` swept over `range`, in its own unit; by default over the calibrated range."""
        curve = self.vae.calibration_of(attribute)
        low, high = range or (curve["values"][0], curve["values"][-1])
        latents = self._encode_one(image).repeat(steps, 1)
        moved = self._move(latents, {attribute: np.linspace(low, high, steps).tolist()})
        return self.decode(moved, output_type=output_type)

    def edit(
        self, images: Image, attributes: Mapping[str, float | Sequence[float]], output_type: str = "pil"
    ) -> AttributeVAEPipelineOutput:
        """Images with the given attributes, in their own units; one value for all images or one for each.

        Raises:
            ValueError: an unknown or uncalibrated attribute, a value outside its calibrated range, or another number
                of values than of images.
        """
        return self.decode(self._move(self.encode(images), attributes), output_type=output_type)

    def read_attributes(self, images: Image) -> dict[str, np.ndarray]:
        """What the latents say of each calibrated attribute, in its own unit: {name: (B,)}."""
        latents = self.encode(images).float().cpu().numpy()
        return {
            name: np.array([self.vae.latent_to_attribute(name, value) for value in latents[:, dimension]])
            for dimension, name in enumerate(self.attributes)
            if name in (self.vae.config["calibration"] or {})
        }

    def _move(self, latents: torch.Tensor, attributes: Mapping[str, float | Sequence[float]]) -> torch.Tensor:
        """Latents (B, K) with the dimension of each attribute set to what its value, or values (B,), call for."""
        moved = latents.clone()
        for name, value in attributes.items():
            values = np.atleast_1d(np.asarray(value, dtype=float))
            if len(values) not in (1, len(latents)):
                raise ValueError(
                    f"{len(values)} values of {name} for {len(latents)} images: give one for all or one for each image."
                )
            targets = [self.vae.attribute_to_latent(name, number) for number in values]
            moved[:, self.attributes.index(name)] = torch.tensor(targets, device=moved.device, dtype=moved.dtype)
        return moved

    def _encode_one(self, image: Image) -> torch.Tensor:
        latents = self.encode(image)
        if len(latents) != 1:
            raise ValueError(f"Got {len(latents)} images where one was expected. Call once for each pair.")
        return latents

    def _check_output_type(self, output_type: str) -> None:
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type={output_type!r} is unknown. Expected one of {', '.join(OUTPUT_TYPES)}.")
        channels = self.vae.config["in_channels"]
        if output_type == "pil" and self.vae.config["likelihood"] != "categorical" and channels not in (1, 3):
            raise ValueError(f"PIL has no images of {channels} channels. Ask for output_type='np' or 'pt'.")

    def _postprocess(self, pixels: torch.Tensor, output_type: str) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
        """(B, C, H, W) expectations as the asked kind of output."""
        if self.vae.config["likelihood"] == "categorical":
            labels = pixels.argmax(dim=1)
            if output_type == "pt":
                return labels
            maps = labels.to(torch.uint8).cpu().numpy()
            return maps if output_type == "np" else [_palette_image(labels) for labels in maps]
        if output_type == "pt":
            return pixels
        arrays = pixels.float().permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "np":
            return arrays
        low, high = self.vae.config["value_range"]
        return self.numpy_to_pil((arrays - low) / (high - low))


def _as_tensor(image: Any) -> torch.Tensor:
    """A tensor as it is; an array or PIL image as a tensor of the same dtype and shape."""
    if isinstance(image, torch.Tensor):
        return image
    if not isinstance(image, (PIL.Image.Image, np.ndarray)):
        raise TypeError(
            f"Got a {type(image).__name__}, expected a PIL image, a numpy array, a tensor or a list of them."
        )
    array = np.asarray(image)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))  # a copy; scans are often big-endian


def _label_maps(image: Any) -> torch.Tensor:
    """One PIL image, array or tensor as label maps (B, H, W)."""
    labels = _as_tensor(image)
    if labels.ndim not in (2, 3):
        raise ValueError(f"Got label maps of shape {tuple(labels.shape)}, expected (H, W) or (B, H, W).")
    return labels if labels.ndim == 3 else labels[None]


def _intensities(image: Any, shape: tuple[int, int, int]) -> torch.Tensor:
    """One PIL image, array or tensor as (B, C, H, W), with (C, H, W) checked to be `shape`. The dtype stays."""
    if isinstance(image, PIL.Image.Image) and image.mode == "P":
        image = image.convert("RGB")  # its pixels are indices into a palette
    pixels = _as_tensor(image)
    if pixels.ndim not in ((3, 4) if isinstance(image, torch.Tensor) else (2, 3, 4)):
        raise ValueError(
            f"Got images of shape {tuple(pixels.shape)}, expected an array (H, W), (H, W, C), (B, H, W) or "
            "(B, H, W, C), or a tensor (C, H, W) or (B, C, H, W)."
        )
    if not isinstance(image, torch.Tensor):
        has_channels = pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[-1] <= max(4, shape[0]))
        pixels = pixels.movedim(-1, -3) if has_channels else pixels[..., None, :, :]
    if pixels.shape[-3:] != shape:
        raise ValueError(
            f"Got images of (channels, height, width) {tuple(pixels.shape[-3:])}, expected {shape}. "
            "Crop, pad or resize them, and choose the channels, first."
        )
    return pixels if pixels.ndim == 4 else pixels[None]


def _to_range(pixels: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Integers scaled from the range of their type to [low, high]; floats checked to be in it (tolerance 1e-3)."""
    if not pixels.is_floating_point():
        if pixels.dtype not in (torch.uint8, torch.uint16, torch.bool):
            raise ValueError(
                f"Got integer images of type {pixels.dtype}, whose range says nothing of the intensities. "
                f"Convert to uint8, uint16 or to floats in [{low:g}, {high:g}]."
            )
        top = 1 if pixels.dtype == torch.bool else torch.iinfo(pixels.dtype).max
        return low + (high - low) * pixels.float() / top
    pixels = pixels.float()
    if not torch.isfinite(pixels).all():
        raise ValueError(f"{int((~torch.isfinite(pixels)).sum())} pixels are NaN or infinite. Mend or mask them first.")
    lowest, highest = pixels.min().item(), pixels.max().item()
    slack = 1e-3 * (high - low)
    if lowest < low - slack or highest > high + slack:
        raise ValueError(
            f"Got intensities in [{lowest:.4g}, {highest:.4g}], expected the model's range [{low:g}, {high:g}]. "
            "Rescale the images as the training data were."
        )
    return pixels.clamp(low, high)


def _one_hot(labels: torch.Tensor, count: int, size: tuple[int, int]) -> torch.Tensor:
    """Label maps (B, H, W) as (B, count, H, W) floats."""
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        raise ValueError("Got fractional labels, expected integers. Resample label maps with nearest neighbours.")
    labels = labels.long()
    if labels.shape[1:] != size:
        raise ValueError(f"Got label maps of height and width {tuple(labels.shape[1:])}, expected {size}. Crop or pad.")
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"Got labels {labels.min()} to {labels.max()}, expected 0 to {count - 1}. Map them first.")
    return torch.nn.functional.one_hot(labels, count).permute(0, 3, 1, 2).float()


def _palette_image(labels: np.ndarray) -> PIL.Image.Image:
    """Label map (H, W) as a PIL image that keeps the labels and shows them in colours."""
    image = PIL.Image.fromarray(labels)
    image.putpalette([0, 0, 0, 230, 75, 60, 70, 130, 230, 250, 200, 60, 90, 200, 120, 180, 90, 200, 80, 200, 220])
    return image


def _slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of (1, K) vectors at fractions t (N, 1); straight where they are nearly parallel."""
    unit_a, unit_b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
    angle = torch.arccos((unit_a * unit_b).sum().clamp(-1, 1))
    if angle.sin() < 1e-4:
        return torch.lerp(a, b, t)
    direction = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / torch.sin(angle)
    return direction * torch.lerp(a.norm(), b.norm(), t)
