"""Encode, decode, sample, interpolate and edit images by attribute with an attribute-regularised VAE (AR-VAE).

Pati and Lerch 2020, "Attribute-based regularization of latent spaces for variational auto-encoders".

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

from .meddiffusers_checks_v1 import check_choice, check_counts, check_finite, check_generators, check_output_type
from .meddiffusers_saving_v1 import PublishedPipelineMixin

PUBLISHED_AS = "meddiffusers_attribute_vae_pipeline_v1"  # the `custom_pipeline` name of a published repository
OUTPUT_TYPES = ("pil", "np", "pt")
TOLERANCE = 1e-3  # of intensities outside their range, and of labels that are whole numbers up to rounding
Image = PIL.Image.Image | np.ndarray | torch.Tensor | Sequence[PIL.Image.Image | np.ndarray | torch.Tensor]


@dataclass
class AttributeVAEPipelineOutput(BaseOutput):
    """Output of `AttributeVAEPipeline`.

    Args:
        images: B images in the requested `output_type`.
        latents: Latents (B, K) that were decoded.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    latents: torch.Tensor


class AttributeVAEPipeline(PublishedPipelineMixin, DiffusionPipeline):
    """Pipeline that samples, reconstructs and edits images with an `AttributeVAE`.

    Calling it samples images. Their latents come from N(0, I), or from the Gaussian of the training images' latents if
    the model has `latent_moments`.

    Args:
        vae: An `AttributeVAE`.

    Raises:
        TypeError: Another model.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("examples/checkpoints/ar-vae-mnist")
        >>> images = pipe(batch_size=4).images
        >>> pipe.edit(images[0], {"area": 120.0}).images[0].save("larger.png")
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
        """Sample images, or decode given latents.

        Args:
            batch_size: Number of images B.
            generator: One generator for the batch, or a list of one for each image.
            latents: Latents (B, K) to decode instead of random ones.
            output_type: "pil", "np" or "pt".
            return_dict: Return an output object rather than a tuple.

        Returns:
            An `AttributeVAEPipelineOutput`, or a tuple of its fields.

        Raises:
            ValueError: Another number of generators than images, or as `decode` does.
        """
        check_counts(batch_size=batch_size)
        check_generators(generator, batch_size)
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
        """Sample `n` images, as calling the pipeline does."""
        return self(batch_size=n, generator=generator, output_type=output_type)  # type: ignore[return-value]

    def preprocess(self, images: Image) -> torch.Tensor:
        """Check images and convert them to the model's input.

        Args:
            images: Images of any accepted kind, see above.

        Returns:
            A tensor (B, C, H, W), float32, in `value_range`; label maps are one-hot.

        Raises:
            TypeError: Not images.
            ValueError: No image, NaN, another size or number of channels than the model's, or values outside its range.
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
        """Encode images to the means of their posterior (B, K).

        Raises the errors of `preprocess`.
        """
        pixels = self.preprocess(images).to(self._execution_device, self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode()
        check_finite(latents, "vae", "the encoding of the images")
        self.maybe_free_model_hooks()
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, output_type: str = "pil") -> AttributeVAEPipelineOutput:
        """Decode latents to images E[x | z].

        Args:
            latents: Latents (B, K).
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: Another number of latent dimensions than the model's, NaN, an unknown `output_type`, or "pil"
                for intensity images with neither 1 nor 3 channels.
        """
        self._check_output_type(output_type)
        dimensions = self.vae.config["latent_dim"]
        fits = isinstance(latents, torch.Tensor) and latents.ndim == 2 and latents.shape[1] == dimensions
        if not fits or not torch.isfinite(latents).all():
            raise ValueError(f"Got latents of shape {(*np.shape(latents),)}, expected finite values (B, {dimensions}).")
        latents = latents.to(self._execution_device, self.vae.dtype)
        pixels = self.vae.expectation(self.vae.decode(latents).sample)
        check_finite(pixels, "vae", "the decoding of the latents")
        self.maybe_free_model_hooks()
        return AttributeVAEPipelineOutput(images=self._postprocess(pixels, output_type), latents=latents)

    def reconstruct(self, images: Image, output_type: str = "pil") -> AttributeVAEPipelineOutput:
        """Encode images and decode the means of their posterior."""
        return self.decode(self.encode(images), output_type=output_type)

    def interpolate(
        self, a: Image, b: Image, steps: int = 8, method: str = "linear", output_type: str = "pil"
    ) -> AttributeVAEPipelineOutput:
        """Interpolate between two images in latent space.

        Args:
            a: First image.
            b: Last image.
            steps: Number of images, both ends included.
            method: "linear", (1−t)·z_a + t·z_b, or "spherical", along the great circle with interpolated length, which
                keeps to the typical length of samples of N(0, I).
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: An unknown method, several images, or as `preprocess` and `decode` do.
        """
        paths: dict[str, Callable[..., torch.Tensor]] = {"linear": torch.lerp, "spherical": _slerp}
        check_choice("method", method, [*paths])
        check_counts(steps=steps)
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
        """Vary one attribute of an image.

        Args:
            image: The image.
            attribute: Name of the attribute.
            range: First and last value in the attribute's own unit; by default the calibrated range.
            steps: Number of images.
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: An unknown or uncalibrated attribute, or a value outside its calibrated range.
        """
        check_counts(steps=steps)
        curve = self.vae.calibration_of(attribute)
        low, high = range or (curve["values"][0], curve["values"][-1])
        latents = self._encode_one(image).repeat(steps, 1)
        edited = self._edit_latents(latents, {attribute: np.linspace(low, high, steps).tolist()})
        return self.decode(edited, output_type=output_type)

    def edit(
        self, images: Image, attributes: Mapping[str, float | Sequence[float]], output_type: str = "pil"
    ) -> AttributeVAEPipelineOutput:
        """Change attributes of images.

        Args:
            images: The images.
            attributes: Target values in the attributes' own units, one for all images or one for each.
            output_type: "pil", "np" or "pt".

        Raises:
            ValueError: An unknown or uncalibrated attribute, a value outside its calibrated range, or another number
                of values than of images.
        """
        return self.decode(self._edit_latents(self.encode(images), attributes), output_type=output_type)

    def read_attributes(self, images: Image) -> dict[str, np.ndarray]:
        """Predict each calibrated attribute from the latents of images, {name: (B,)}, in its own unit."""
        latents = self.encode(images).float().cpu().numpy()
        return {
            name: np.array([self.vae.latent_to_attribute(name, value) for value in latents[:, dimension]])
            for dimension, name in enumerate(self.attributes)
            if name in (self.vae.config["calibration"] or {})
        }

    def _edit_latents(self, latents: torch.Tensor, attributes: Mapping[str, float | Sequence[float]]) -> torch.Tensor:
        """Set the latent dimension of each attribute to its target value, or values (B,)."""
        if not isinstance(attributes, Mapping):
            raise ValueError(f"attributes={attributes!r}; expected target values by name.")
        edited = latents.clone()
        for name, value in attributes.items():
            values = np.atleast_1d(np.asarray(value, dtype=float))
            if values.ndim != 1 or len(values) not in (1, len(latents)):
                raise ValueError(
                    f"{len(values)} values of {name} for {len(latents)} images: give one for all or one for each image."
                )
            targets = [self.vae.attribute_to_latent(name, target) for target in values]
            edited[:, self.attributes.index(name)] = torch.tensor(targets, device=edited.device, dtype=edited.dtype)
        return edited

    def _encode_one(self, image: Image) -> torch.Tensor:
        latents = self.encode(image)
        if len(latents) != 1:
            raise ValueError(f"Got {len(latents)} images where one was expected. Call once for each pair.")
        return latents

    def _check_output_type(self, output_type: str) -> None:
        check_output_type(output_type, OUTPUT_TYPES)
        channels = self.vae.config["in_channels"]
        if output_type == "pil" and self.vae.config["likelihood"] != "categorical" and channels not in (1, 3):
            raise ValueError(f"PIL has no images of {channels} channels. Use output_type='np' or 'pt'.")

    def _postprocess(self, pixels: torch.Tensor, output_type: str) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
        """Convert expectations (B, C, H, W) to the requested output type."""
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
    """Convert an array or PIL image to a tensor of the same dtype and shape; tensors are returned unchanged."""
    if isinstance(image, torch.Tensor):
        return image
    if not isinstance(image, (PIL.Image.Image, np.ndarray)):
        raise TypeError(
            f"Got a {type(image).__name__}, expected a PIL image, a numpy array, a tensor or a list of them."
        )
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise ValueError(f"Got an array of type {array.dtype}, expected uint8, uint16 or floats.")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))  # a copy; scans are often big-endian


def _label_maps(image: Any) -> torch.Tensor:
    """Convert one PIL image, array or tensor to label maps (B, H, W)."""
    labels = _as_tensor(image)
    if labels.ndim not in (2, 3):
        raise ValueError(f"Got label maps of shape {tuple(labels.shape)}, expected (H, W) or (B, H, W).")
    return labels if labels.ndim == 3 else labels[None]


def _intensities(image: Any, shape: tuple[int, int, int]) -> torch.Tensor:
    """Convert one PIL image, array or tensor to (B, C, H, W) of the same dtype, and check (C, H, W) against `shape`."""
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
    """Scale integers from the range of their type to [low, high]; check that floats lie in it (tolerance 1e-3)."""
    if not pixels.is_floating_point():
        if pixels.dtype not in (torch.uint8, torch.uint16, torch.bool):
            raise ValueError(
                f"Got integer images of type {pixels.dtype}, whose range does not define the intensities. "
                f"Convert to uint8, uint16 or to floats in [{low:g}, {high:g}]."
            )
        top = 1 if pixels.dtype == torch.bool else torch.iinfo(pixels.dtype).max
        return low + (high - low) * pixels.float() / top
    pixels = pixels.float()
    if not torch.isfinite(pixels).all():
        raise ValueError(
            f"{int((~torch.isfinite(pixels)).sum())} pixels are NaN or infinite. Replace or mask them first."
        )
    lowest, highest = pixels.min().item(), pixels.max().item()
    slack = TOLERANCE * (high - low)
    if lowest < low - slack or highest > high + slack:
        raise ValueError(
            f"Got intensities in [{lowest:.4g}, {highest:.4g}], expected the model's range [{low:g}, {high:g}]. "
            "Rescale the images as the training data were."
        )
    return pixels.clamp(low, high)


def _one_hot(labels: torch.Tensor, count: int, size: tuple[int, int]) -> torch.Tensor:
    """Convert label maps (B, H, W) to one-hot floats (B, count, H, W)."""
    if labels.is_floating_point():
        if not ((labels - labels.round()).abs() <= TOLERANCE).all():  # which NaN is not either
            raise ValueError("Got fractional labels, expected integers. Resample label maps with nearest neighbours.")
        labels = labels.round()
    labels = labels.long()
    if labels.shape[1:] != size:
        raise ValueError(f"Got label maps of height and width {tuple(labels.shape[1:])}, expected {size}. Crop or pad.")
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"Got labels {labels.min()} to {labels.max()}, expected 0 to {count - 1}. Map them first.")
    return torch.nn.functional.one_hot(labels, count).permute(0, 3, 1, 2).float()


def _palette_image(labels: np.ndarray) -> PIL.Image.Image:
    """Convert a label map (H, W) to a PIL image in mode "P", whose palette shows the labels in colours."""
    image = PIL.Image.fromarray(labels)
    image.putpalette([0, 0, 0, 230, 75, 60, 70, 130, 230, 250, 200, 60, 90, 200, 120, 180, 90, 200, 80, 200, 220])
    return image


def _slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Interpolate vectors (1, K) spherically at fractions t (N, 1), linearly where they are nearly parallel."""
    unit_a, unit_b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
    angle = torch.arccos((unit_a * unit_b).sum().clamp(-1, 1))
    if angle.sin() < 1e-4:
        return torch.lerp(a, b, t)
    direction = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / torch.sin(angle)
    return direction * torch.lerp(a.norm(), b.norm(), t)
