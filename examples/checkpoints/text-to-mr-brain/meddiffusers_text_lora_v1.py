"""LoRA adapters that change a pipeline's `text_encoder` along with its `unet`.

Pipelines import it from this file beside them, and publish it with them. The weights for the text encoder, any encoder
of transformers, are in the same file as those of the U-Net, under names that begin with "text_encoder.".
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from peft import LoraConfig

PUBLISHED_AS = "meddiffusers_text_lora_v1"  # also its file name here, so that imports find it in both places


class TextEncoderLoraMixin:
    """Mixin that precedes `UNetLoraMixin` among the bases of a pipeline."""

    _lora_loadable_modules = ["unet", "text_encoder"]
    unet: Any
    text_encoder: Any

    @classmethod
    def save_lora_weights(
        cls,
        save_directory: str | PathLike[str],
        unet_lora_layers: dict[str, torch.nn.Module | torch.Tensor],
        unet_lora_adapter_metadata: dict[str, Any] | None = None,
        text_encoder_lora_layers: dict[str, torch.nn.Module | torch.Tensor] | None = None,
        text_encoder_lora_adapter_metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write adapter weights as safetensors, with the settings that their effect depends on.

        Args:
            save_directory: Folder to write to.
            unet_lora_layers: Weights for the U-Net, from `get_peft_model_state_dict`.
            unet_lora_adapter_metadata: The `LoraConfig` of the U-Net as a dictionary; by default that of the layers in
                memory that the weights belong to.
            text_encoder_lora_layers: Weights for the text encoder.
            text_encoder_lora_adapter_metadata: The `LoraConfig` of the text encoder, in the same way.
            kwargs: Other arguments of diffusers, such as `weight_name`.

        Raises:
            ValueError: If a matrix is missing, or weights are NaN or infinite.
        """
        parts = {
            "unet": (unet_lora_layers, unet_lora_adapter_metadata),
            "text_encoder": (text_encoder_lora_layers, text_encoder_lora_adapter_metadata),
        }
        cls._save_adapters(save_directory, parts, **kwargs)  # type: ignore[attr-defined]

    def _load_adapters(self, adapters: Mapping[str, Any], adapter_name: str | None, **options: Any) -> None:
        """Add checked adapters to both networks, or to none."""
        text = adapters.get("text_encoder")
        if text and options.get("hotswap"):
            raise ValueError(
                "The adapter has a part for the text encoder, which cannot be swapped. Load it without hotswap."
            )
        before = self._adapters()  # type: ignore[attr-defined]
        super()._load_adapters(adapters, adapter_name, **options)  # type: ignore[misc]
        if text is None:
            return
        name = adapter_name or next(iter(self._adapters() - before))  # type: ignore[attr-defined]
        try:
            config = LoraConfig(**text.config)
            self.text_encoder.load_adapter(adapter_name=name, adapter_state_dict=text.weights, peft_config=config)
        except (RuntimeError, ValueError) as error:
            self.delete_adapters(name)  # type: ignore[attr-defined]
            raise ValueError(f"The adapter's part for the text encoder does not fit: {error}") from error
