"""What a brain MR slice shows: regions, modality, where it lies and of whom. A judge of generated images.

One U-Net whose output has a channel for each label, for each modality and for each number; those of modality and
numbers are averaged over the image.

| here | shape |
|---|---|
| `sample`, intensities in [0, 1] | (B, 1, H, W) |
| `logits` of the labels, whose FreeSurfer ids are `label_ids` | (B, L, H, W) |
| `modality_logits`, of `modalities` | (B, M) |
| `numbers`, those of `NUMBERS`, in their units; "male" as a logit | (B, 3) |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor

PUBLISHED_AS = "meddiffusers_slice_attribute_predictor_v1"  # file name in a repository
NUMBERS = {"slice": 100.0, "age": 100.0, "male": 1.0}  # with what an output of 1 is
BACKGROUND = 0


@dataclass
class SliceAttributePredictorOutput(BaseOutput):
    """`logits` (B, L, H, W), `modality_logits` (B, M), `numbers` (B, 3).

    Accelerate makes it anew of a dictionary where it trains in half precision, which an output of several fields takes
    only if those behind the first have deissues.
    """

    logits: Tensor
    modality_logits: Tensor = None  # type: ignore[assignment]
    numbers: Tensor = None  # type: ignore[assignment]


class SliceAttributePredictor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Reads images.

    Configuration:
        label_ids: FreeSurfer ids of the labels, the first of them 0, the background.
        modalities: names, as `meddiffusers.data.modalities` has them.
        sample_size: side length in pixels of the images it was trained on.
        patch_size: pixels of each side that the network sees as one.
        network: what else a `UNet2DModel` takes, but for its channels.

    Raises:
        ValueError: labels without the background in front, or no modality.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        label_ids: Sequence[int] = (BACKGROUND, 2, 41),
        modalities: Sequence[str] = ("t1", "t2"),
        sample_size: int = 96,
        patch_size: int = 2,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        if [*label_ids][:1] != [BACKGROUND] or len(label_ids) < 2 or not modalities:
            raise ValueError(
                f"Got label_ids={list(label_ids)} and modalities={list(modalities)}; expected 0 and more ids, and at "
                "least one modality."
            )
        self.unet: Any = UNet2DModel(
            sample_size=sample_size // patch_size,
            in_channels=patch_size**2,
            out_channels=len(label_ids) * patch_size**2 + len(modalities) + len(NUMBERS),
            **(network or {}),
        )

    def forward(
        self, sample: Tensor, return_dict: bool = True
    ) -> SliceAttributePredictorOutput | tuple[Tensor, Tensor, Tensor]:
        """What images (B, 1, H, W), in [0, 1], show."""
        patch, modalities = self.config["patch_size"], len(self.config["modalities"])
        read = self.unet(F.pixel_unshuffle(2 * sample - 1, patch), 0).sample
        marked = len(self.config["label_ids"]) * patch**2
        logits, whole = F.pixel_shuffle(read[:, :marked], patch), read[:, marked:].mean(dim=(2, 3))
        numbers = whole[:, modalities:] * whole.new_tensor([*NUMBERS.values()])
        if not return_dict:
            return logits, whole[:, :modalities], numbers
        return SliceAttributePredictorOutput(logits=logits, modality_logits=whole[:, :modalities], numbers=numbers)

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
