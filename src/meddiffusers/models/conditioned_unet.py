"""Denoiser of latents that is conditioned on covariates, a class and a label map, around MONAI's U-Net.

| symbol | here | shape |
|---|---|---|
| z_t | `sample` | (B, c, h, w) or (B, c, d, h, w), as `spatial_dims` says |
| t | `timestep` | one for all, or (B,) |
| u | `covariates`, from 0 to 1 over their ranges, `UNKNOWN` if not given | (B, K) |
| y | `class_labels`, ids 0 … L − 1 of `id2label`, L if not given | (B,) |
| m | `masks`, label maps of the decoded image or volume, `UNKNOWN` throughout if not given | (B, f·h, f·w) … |

Covariates enter twice: as constant channels beside z_t, and as the one token of the cross-attention (Pinaya et al.
2022, "Brain imaging generation with latent diffusion models", section 2.2, which uses u alone). With F Fourier
features, cos πku and sin πku, k = 1 … F, are appended to u, 0 where u is unknown: they resolve small differences, and
separate an unknown covariate from a small one. A label map enters as channels on the grid of z_t: an indicator that
there is a map, and for each label its fraction of the f×f×f voxels of a latent, or each of these voxels. Training drops
conditions at random, so that each may be left out in sampling, and classifier-free guidance works (Ho and Salimans
2022).
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

PUBLISHED_AS = "meddiffusers_conditioned_unet_v1"  # library name in model_index.json and file name in a repository
UNKNOWN = -1.0
DERIVED = (
    "spatial_dims", "in_channels", "out_channels", "with_conditioning", "cross_attention_dim", "num_class_embeds"
)  # fmt: skip


class ConditionedUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Conditional denoiser of latents, which supports LoRA adapters.

    Args:
        spatial_dims: 2 or 3.
        latent_channels: c.
        sample_size: Sides of the latents in training; the network accepts others that its levels can halve.
        covariates: Ranges in their own units, `{"age": [18, 95], "sex": ["F", "M"]}`: lowest and highest value of a
            number, all values of a category; None for no covariates. The configuration stores pairs, since JSON does
            not keep the order of names, which is that of the channels.
        num_fourier_features: F, number of frequencies.
        id2label: Names of the classes by id; None for no classes.
        mask_labels: Names of the label maps' ids, such as `{1: "oedema"}`, without the background 0; None for no masks.
        mask_downsample: f, the factor between the sides of label maps and latents.
        mask_space_to_depth: Use a channel for each voxel of a latent, rather than the fraction of each label.
        network: Other arguments of MONAI's `DiffusionModelUNet`.

    Raises:
        ValueError: A configuration that cannot work, with what to change.

    Example:
        >>> unet = ConditionedUNet(covariates={"age": [18, 95], "sex": ["F", "M"]})
        >>> covariates = unet.scale_covariates([{"age": 63, "sex": "F"}])
        >>> unet(torch.randn(1, 3, 10, 12, 10), 500, covariates=covariates).sample.shape
        torch.Size([1, 3, 10, 12, 10])
    """

    _supports_gradient_checkpointing = False  # not implemented by MONAI's network
    _supports_group_offloading = False  # MONAI's convolutions cannot be sliced

    @register_to_config
    def __init__(
        self,
        spatial_dims: int = 3,
        latent_channels: int = 3,
        sample_size: Sequence[int] = (10, 12, 10),
        covariates: Mapping[str, Sequence[Any]] | Sequence[tuple[str, Sequence[Any]]] | None = None,
        num_fourier_features: int = 0,
        id2label: Mapping[Any, str] | Sequence[str] | None = None,
        mask_labels: Mapping[Any, str] | None = None,
        mask_downsample: int = 8,
        mask_space_to_depth: bool = False,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        clashing = set(network or {}) & set(DERIVED)
        if clashing or len(sample_size) != spatial_dims:
            raise ValueError(
                f"sample_size={list(sample_size)} with spatial_dims={spatial_dims}, and network sets "
                f"{', '.join(sorted(clashing)) or 'nothing'} which other arguments determine; expected as many sides "
                "as dimensions, and none of these."
            )
        ranges = dict(covariates or {})
        for name, ends in ranges.items():
            _check_range(name, list(ends))
        self.register_to_config(covariates=[[name, list(ends)] for name, ends in ranges.items()] or None)
        known = len(ranges) * (1 + 2 * num_fourier_features)
        self.unet = DiffusionModelUNet(
            spatial_dims=spatial_dims,
            in_channels=latent_channels + known + self.mask_channels,
            out_channels=latent_channels,
            with_conditioning=bool(known),
            cross_attention_dim=known or None,
            num_class_embeds=len(id2label) + 1 if id2label else None,
            **(network or {}),
        )

    @property
    def covariates(self) -> dict[str, list[Any]]:
        """Ranges of the covariates by name, in the order of the channels."""
        return {name: list(ends) for name, ends in self.config["covariates"] or []}

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the classes by id; empty without classes."""
        names = self.config["id2label"] or {}
        by_id = names if isinstance(names, Mapping) else dict(enumerate(names))
        return {int(label_id): name for label_id, name in by_id.items()}

    @property
    def mask_labels(self) -> dict[int, str]:
        """Names of the label maps' ids, in the order of the ids; empty without masks."""
        return {int(label): name for label, name in sorted((self.config["mask_labels"] or {}).items(), key=_id)}

    @property
    def mask_channels(self) -> int:
        """Number of input channels for a label map."""
        voxels = (
            self.config["mask_downsample"] ** self.config["spatial_dims"] if self.config["mask_space_to_depth"] else 1
        )
        return 1 + voxels * len(self.mask_labels) if self.mask_labels else 0

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        covariates: Tensor | None = None,
        class_labels: Tensor | None = None,
        masks: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict noise, sample or velocity of noisy latents.

        Args:
            sample: Noisy latents (B, c, h, w) or (B, c, d, h, w).
            timestep: One timestep for all, or (B,).
            covariates: Scaled covariates (B, K), see `scale_covariates`; `UNKNOWN` for those that are not given.
            class_labels: Ids of the classes (B,); L if not given.
            masks: Label maps (B, f·h, f·w) or (B, f·d, f·h, f·w) of ids.
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `UNet2DOutput` whose `sample` has the shape of the latents, or a tuple of it.

        Raises:
            ValueError: Conditions that the model does not take.
        """
        self._check_conditions(covariates, class_labels, masks)
        batch_size, size = len(sample), sample.shape[2:]
        parts, token = [sample], None
        if self.covariates:
            if covariates is None:
                covariates = torch.full((batch_size, len(self.covariates)), UNKNOWN, device=sample.device)
            features = self._fourier_features(covariates.to(sample))
            parts.append(features.view(*features.shape, *(1,) * len(size)).expand(-1, -1, *size))
            token = features[:, None]
        if self.mask_labels:
            no_mask = sample.new_zeros(batch_size, self.mask_channels, *size)
            parts.append(no_mask if masks is None else self._encode_masks(masks).to(sample))
        if self.id2label and class_labels is None:
            class_labels = torch.full((batch_size,), len(self.id2label), device=sample.device)
        times = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(batch_size)
        predicted = self.unet(torch.cat(parts, dim=1), times, context=token, class_labels=class_labels)
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)

    def scale_covariates(self, rows: Sequence[Mapping[str, Any]], extrapolate: bool = False) -> Tensor:
        """Scale covariates in their own units to [0, 1] over their ranges.

        Args:
            rows: B rows such as `{"age": 63, "sex": "F"}`. Covariates that are missing, None or NaN are `UNKNOWN`.
            extrapolate: Accept numbers outside their range, with a warning.

        Returns:
            Scaled covariates (B, K), float32.

        Raises:
            ValueError: An unknown name or category, or a number outside its range.
        """
        ranges = self.covariates
        if unknown := sorted({str(name) for row in rows for name in row if name not in ranges}):
            raise ValueError(
                f"Got the covariates {', '.join(map(str, unknown))}; the model takes {', '.join(ranges) or 'none'}."
            )
        values = [[_scaled(name, row.get(name), ends, extrapolate) for name, ends in ranges.items()] for row in rows]
        return torch.tensor(values, dtype=torch.float32).reshape(len(rows), len(ranges))

    def _check_conditions(self, covariates: Tensor | None, class_labels: Tensor | None, masks: Tensor | None) -> None:
        given = {"covariates": covariates, "class_labels": class_labels, "masks": masks}
        known = {"covariates": self.covariates, "class_labels": self.id2label, "masks": self.mask_labels}
        if foreign := [name for name, value in given.items() if value is not None and not known[name]]:
            taken = [name for name, value in known.items() if value]
            raise ValueError(f"Got {', '.join(foreign)}; this model takes {', '.join(taken) or 'no conditions'}.")

    def _fourier_features(self, covariates: Tensor) -> Tensor:
        """Return u and its Fourier features, (B, K·(1 + 2F))."""
        factors = torch.arange(1, self.config["num_fourier_features"] + 1).to(covariates)
        angles = math.pi * covariates[:, :, None] * factors
        features = torch.cat([angles.cos(), angles.sin()], dim=2) * (covariates != UNKNOWN)[:, :, None]
        return torch.cat([covariates, features.flatten(1)], dim=1)

    def _encode_masks(self, masks: Tensor) -> Tensor:
        """Return label maps (B, …) as channels (B, M, …) on the latents' grid."""
        factor, dims = self.config["mask_downsample"], self.config["spatial_dims"]
        blocks = torch.stack([masks == label for label in self.mask_labels], dim=1).float()
        for axis in range(2, 2 + 2 * dims, 2):  # (B, L, h, f, w, f, …)
            blocks = blocks.unflatten(axis, (-1, factor))
        within, coarse = [3 + 2 * axis for axis in range(dims)], [2 + 2 * axis for axis in range(dims)]
        if self.config["mask_space_to_depth"]:
            blocks = blocks.permute(0, 1, *within, *coarse).flatten(1, 1 + dims)
        else:
            blocks = blocks.mean(dim=within)
        known = (masks.flatten(1) != UNKNOWN).any(dim=1).view(-1, *(1,) * (dims + 1))
        return torch.cat([torch.ones_like(blocks[:, :1]), blocks], dim=1) * known

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _id(label: tuple[Any, str]) -> int:
    return int(label[0])


def _check_range(name: str, ends: list[Any]) -> None:
    if ends and all(isinstance(end, str) for end in ends) and len(set(ends)) == len(ends):
        return
    if (
        len(ends) != 2
        or not all(isinstance(end, int | float) for end in ends)
        or not -math.inf < ends[0] < ends[1] < math.inf
    ):
        raise ValueError(f"{name}={ends}; expected a lower and a higher number, or different names of categories.")


def _scaled(name: str, value: Any, ends: Sequence[Any], extrapolate: bool) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(ends[0], str):
        if value not in ends:
            raise ValueError(f"{name}={value!r}; expected one of {', '.join(ends)}.")
        return list(ends).index(value) / max(len(ends) - 1, 1)
    low, high = float(ends[0]), float(ends[1])
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}={value!r}; expected a number from {low:g} to {high:g}. Categories must be named in the "
            f"model's configuration, such as ['F', 'M'] in place of [{low:g}, {high:g}]."
        ) from None
    if not low <= number <= high:
        message = f"{name}={value} is outside {low:g} to {high:g}, the range of the training data"
        if not extrapolate:
            raise ValueError(f"{message}. Stay within it, or pass extrapolate=True and check the results.")
        warnings.warn(f"{message}.", stacklevel=4)
    return (number - low) / (high - low)
