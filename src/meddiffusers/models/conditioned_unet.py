"""Denoiser of latents that is told covariates, a class, a label map, any of them or nothing, around MONAI's U-Net.

| symbol | here | shape |
|---|---|---|
| z_t | `sample` | (B, c, h, w) or (B, c, d, h, w), as `spatial_dims` says |
| t | `timestep` | one for all, or (B,) |
| u | `covariates`, from 0 to 1 over their ranges, `UNKNOWN` where nothing is said | (B, K) |
| y | `class_labels`, ids 0 … L − 1 of `id2label`, L where unknown | (B,) |
| m | `masks`, label maps of the decoded image or volume, `UNKNOWN` throughout where there is none | (B, f·h, f·w) … |

Covariates enter twice, as constant channels beside z_t and as the one token of the cross-attention (Pinaya et al. 2022,
"Brain imaging generation with latent diffusion models", section 2.2). There u is all that is told. With W waves, cos
πku and sin πku, k = 1 … W, are told beside it, 0 where u is unknown: so small differences are seen, and what is unknown
does not look like a small number. A label map enters as channels on the grid of z_t: 1 where there is one, and of each
label its part of the f×f×f voxels of a latent, or each of these voxels. What is left out at random in training can be
left out later, and guided to (Ho and Salimans 2022, "Classifier-free diffusion guidance").
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
    """Denoiser of latents; LoRA adapters fit on it.

    Configuration:
        spatial_dims: 2 or 3.
        latent_channels: c.
        sample_size: sides of the latents that the model was trained on; others that its levels can halve work too.
        covariates: ranges in their own units, `{"age": [18, 95], "sex": ["F", "M"]}`, of a number its lowest and
            highest value, of a word all that it may be; None: it takes none. Kept as pairs: JSON forgets the order of
            names, which is that of the channels.
        num_fourier_features: W.
        id2label: names of the classes by id, or None: it knows none.
        mask_labels: names of the label maps' ids, such as `{1: "oedema"}`; 0 is all else. None: it takes no maps.
        mask_downsample: f, voxels of a side for each latent.
        mask_space_to_depth: whether each voxel of a latent is a channel of its own; else its part of them is one.
        network: what else MONAI's `DiffusionModelUNet` takes.

    Raises:
        ValueError: a configuration that cannot work, with what to change.
    """

    _supports_gradient_checkpointing = False  # MONAI's network has none,
    _supports_group_offloading = False  # and convolutions that cannot be sliced

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
                f"{', '.join(sorted(clashing)) or 'nothing'} of what follows from the other settings; expected as many "
                "sides as dimensions, and none of these."
            )
        ranges = dict(covariates or {})
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
        """Ranges by name, in the order of the channels."""
        return {name: list(ends) for name, ends in self.config["covariates"] or []}

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the classes by id; empty where it knows none."""
        names = self.config["id2label"] or {}
        to_indexed = names if isinstance(names, Mapping) else dict(enumerate(names))
        return {int(number): name for number, name in to_indexed.items()}

    @property
    def mask_labels(self) -> dict[int, str]:
        """Names of the label maps' ids, in the order of the ids; empty where it takes none."""
        return {int(label): name for label, name in sorted((self.config["mask_labels"] or {}).items(), key=_number)}

    @property
    def mask_channels(self) -> int:
        """How many channels a label map becomes."""
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
        """What the network predicts of noisy latents; what is None is not known.

        Raises:
            ValueError: conditions that the model does not take.
        """
        self._check(covariates, class_labels, masks)
        count, size = len(sample), sample.shape[2:]
        parts, token = [sample], None
        if self.covariates:
            if covariates is None:
                covariates = torch.full((count, len(self.covariates)), UNKNOWN, device=sample.device)
            told = self._with_waves(covariates.to(sample))
            parts.append(told.view(*told.shape, *(1,) * len(size)).expand(-1, -1, *size))
            token = told[:, None]
        if self.mask_labels:
            blank = sample.new_zeros(count, self.mask_channels, *size)
            parts.append(blank if masks is None else self._channels(masks).to(sample))
        if self.id2label and class_labels is None:
            class_labels = torch.full((count,), len(self.id2label), device=sample.device)
        times = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(count)
        predicted = self.unet(torch.cat(parts, dim=1), times, context=token, class_labels=class_labels)
        return UNet2DOutput(sample=predicted) if return_dict else (predicted,)

    def scale_covariates(self, rows: Sequence[Mapping[str, Any]], extrapolate: bool = False) -> Tensor:
        """Covariates (N, K) of rows in their own units, such as `{"age": 63, "sex": "F"}`.

        What a row leaves out, or is None or NaN, is not known. extrapolate: numbers outside their range are taken, with
        a warning.

        Raises:
            ValueError: a name or word that is not known, or a number outside its range.
        """
        ranges = self.covariates
        if unknown := sorted({name for row in rows for name in row if name not in ranges}):
            raise ValueError(f"Got the covariates {', '.join(unknown)}; the model takes {', '.join(ranges) or 'none'}.")
        values = [[_scaled(name, row.get(name), ends, extrapolate) for name, ends in ranges.items()] for row in rows]
        return torch.tensor(values, dtype=torch.float32).reshape(len(rows), len(ranges))

    def _check(self, covariates: Tensor | None, class_labels: Tensor | None, masks: Tensor | None) -> None:
        given = {"covariates": covariates, "class_labels": class_labels, "masks": masks}
        known = {"covariates": self.covariates, "class_labels": self.id2label, "masks": self.mask_labels}
        if foreign := [name for name, value in given.items() if value is not None and not known[name]]:
            taken = [name for name, value in known.items() if value]
            raise ValueError(f"Got {', '.join(foreign)}; this model takes {', '.join(taken) or 'no conditions'}.")

    def _with_waves(self, covariates: Tensor) -> Tensor:
        """u (B, K) and its waves, (B, K·(1 + 2W))."""
        factors = torch.arange(1, self.config["num_fourier_features"] + 1).to(covariates)
        angles = math.pi * covariates[:, :, None] * factors
        waves = torch.cat([angles.cos(), angles.sin()], dim=2) * (covariates != UNKNOWN)[:, :, None]
        return torch.cat([covariates, waves.flatten(1)], dim=1)

    def _channels(self, masks: Tensor) -> Tensor:
        """Label maps (N, …) as channels (N, M, …) on the latents' grid."""
        factor, dims = self.config["mask_downsample"], self.config["spatial_dims"]
        blocks = torch.stack([masks == label for label in self.mask_labels], dim=1).float()
        for axis in range(2, 2 + 2 * dims, 2):  # (N, L, h, f, w, f, …)
            blocks = blocks.unflatten(axis, (-1, factor))
        within, coarse = [3 + 2 * axis for axis in range(dims)], [2 + 2 * axis for axis in range(dims)]
        if self.config["mask_space_to_depth"]:
            blocks = blocks.permute(0, 1, *within, *coarse).flatten(1, 1 + dims)
        else:
            blocks = blocks.mean(dim=within)
        known = (masks.flatten(1) != UNKNOWN).any(dim=1).view(-1, *(1,) * (dims + 1))
        return torch.cat([torch.ones_like(blocks[:, :1]), blocks], dim=1) * known

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _number(label: tuple[Any, str]) -> int:
    return int(label[0])


def _scaled(name: str, value: Any, ends: Sequence[Any], extrapolate: bool) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(ends[0], str):
        if value not in ends:
            raise ValueError(f"{name}={value!r}; expected one of {', '.join(ends)}.")
        return list(ends).index(value) / max(len(ends) - 1, 1)
    low, high = float(ends[0]), float(ends[1])
    if not low <= float(value) <= high:
        message = f"{name}={value} is outside {low:g} to {high:g}, the range that the model has learnt"
        if not extrapolate:
            raise ValueError(f"{message}. Stay within it, or pass extrapolate=True and look at what comes out.")
        warnings.warn(f"{message}.", stacklevel=4)
    return (float(value) - low) / (high - low)
