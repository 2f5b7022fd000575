"""Predict the attributes of a brain MR slice: regions, modality, position, age and sex.

Evaluation uses it as an independent predictor on generated images. It is one U-Net whose output has a channel for each
label, each modality and each scalar; the channels of modalities and scalars are averaged over the image.

| here | shape |
|---|---|
| `sample`, intensities in [0, 1] | (B, 1, H, W) |
| `logits` of the labels, whose FreeSurfer ids are `label_ids` | (B, L, H, W) |
| `modality_logits`, of `modalities` | (B, M) |
| `scalars`, those of `SCALARS`, in their units; "male" as a logit | (B, 3) |
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
SCALARS = {"slice": 100.0, "age": 100.0, "male": 1.0}  # values of an output of 1: slice number, years, logit
BACKGROUND = 0


@dataclass
class SliceAttributePredictorOutput(BaseOutput):
    """Output of `SliceAttributePredictor`.

    Accelerate rebuilds outputs from dictionaries in mixed precision, so all fields but the first need defaults.

    Args:
        logits: Logits of the labels (B, L, H, W).
        modality_logits: Logits of the modalities (B, M).
        scalars: Slice number, age in years, and logit of "male" (B, 3).
    """

    logits: Tensor
    modality_logits: Tensor = None  # type: ignore[assignment]
    scalars: Tensor = None  # type: ignore[assignment]


class SliceAttributePredictor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """U-Net that predicts labels, modality and scalars of MR slices.

    Args:
        label_ids: FreeSurfer ids of the labels, the first of them 0, the background.
        modalities: Names of modalities, as in `meddiffusers.data.modalities`.
        sample_size: Side length in pixels of the training images.
        patch_size: Side in pixels of the patches whose pixels become channels of the network.
        network: Other arguments of `UNet2DModel`.

    Raises:
        ValueError: The background is not the first label, or there is no modality.

    Example:
        >>> predictor = SliceAttributePredictor.from_pretrained("examples/checkpoints/attribute-predictor-brain")
        >>> output = predictor(torch.rand(1, 1, 96, 96))
        >>> slice_number, age, male = output.scalars[0]
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
            out_channels=len(label_ids) * patch_size**2 + len(modalities) + len(SCALARS),
            **(network or {}),
        )

    def forward(
        self, sample: Tensor, return_dict: bool = True
    ) -> SliceAttributePredictorOutput | tuple[Tensor, Tensor, Tensor]:
        """Predict the attributes of images.

        Args:
            sample: Images (B, 1, H, W) in [0, 1]; `patch_size` and the levels of the U-Net divide the sides.
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `SliceAttributePredictorOutput`, or a tuple of its fields.
        """
        patch, modalities = self.config["patch_size"], len(self.config["modalities"])
        output = self.unet(F.pixel_unshuffle(2 * sample - 1, patch), 0).sample
        label_channels = len(self.config["label_ids"]) * patch**2
        logits = F.pixel_shuffle(output[:, :label_channels], patch)
        pooled = output[:, label_channels:].mean(dim=(2, 3))
        modality_logits, scalars = pooled[:, :modalities], pooled[:, modalities:]
        scalars = scalars * scalars.new_tensor([*SCALARS.values()])
        if not return_dict:
            return logits, modality_logits, scalars
        return SliceAttributePredictorOutput(logits=logits, modality_logits=modality_logits, scalars=scalars)

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
