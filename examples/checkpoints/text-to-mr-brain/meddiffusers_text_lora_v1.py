"""LoRA adapters that change a pipeline's `text_encoder` along with its `unet`.

Pipelines import it from this file beside them, and publish it with them. The weights for the text encoder, any encoder
of transformers, are in the same file as those of the U-Net, under names that begin with "text_encoder.".
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from diffusers.loaders.lora_base import _fetch_state_dict
from peft import LoraConfig

PUBLISHED_AS = "meddiffusers_text_lora_v1"  # also its file name here, so that imports find it in both places
PREFIX = "text_encoder."
DOWNLOAD_OPTIONS = (
    "weight_name",
    "local_files_only",
    "cache_dir",
    "force_download",
    "proxies",
    "token",
    "revision",
    "subfolder",
)


class TextEncoderLoraMixin:
    """Mixin that precedes `UNetLoraMixin` among the bases of a pipeline."""

    _lora_loadable_modules = ["unet", "text_encoder"]
    unet: Any
    text_encoder: Any

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | PathLike[str] | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Load an adapter for the U-Net and, if it has weights for it, the text encoder; load both or none.

        Args:
            pretrained_model_name_or_path_or_dict: Repository, folder or file of the adapter, or its weights by name.
            adapter_name: Name of the adapter; by default "default_0", ….
            kwargs: Arguments of diffusers, such as `weight_name` or `revision`.

        Raises:
            ValueError: There is no adapter for this U-Net, its weights do not fit this text encoder, or it has weights
                for the text encoder and is to be hotswapped.
            TypeError: The U-Net does not support adapters.
        """
        state, config = _text_part(pretrained_model_name_or_path_or_dict, kwargs)
        if state and kwargs.get("hotswap"):
            raise ValueError(
                "The adapter has a part for the text encoder, which cannot be swapped. Load it without hotswap."
            )
        before = self._adapters()  # type: ignore[attr-defined]
        super().load_lora_weights(pretrained_model_name_or_path_or_dict, adapter_name, **kwargs)  # type: ignore[misc]
        if not state:
            return
        name = adapter_name or next(iter(self._adapters() - before))  # type: ignore[attr-defined]
        try:
            _check_layers(self.text_encoder, state)
            self.text_encoder.load_adapter(adapter_name=name, adapter_state_dict=state, peft_config=config)
        except (RuntimeError, ValueError) as error:
            self.delete_adapters(name)  # type: ignore[attr-defined]
            raise ValueError(f"The adapter's part for the text encoder does not fit: {error}") from error

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
        """Write adapter weights as safetensors.

        Args:
            save_directory: Folder to write to.
            unet_lora_layers: Weights for the U-Net, from `get_peft_model_state_dict`.
            unet_lora_adapter_metadata: The `LoraConfig` of the U-Net as a dictionary.
            text_encoder_lora_layers: Weights for the text encoder.
            text_encoder_lora_adapter_metadata: The `LoraConfig` of the text encoder as a dictionary.
            kwargs: Other arguments of diffusers, such as `weight_name`.
        """
        layers = {"unet": unet_lora_layers, "text_encoder": text_encoder_lora_layers}
        metadata = {"unet": unet_lora_adapter_metadata, "text_encoder": text_encoder_lora_adapter_metadata}
        cls._save_lora_weights(  # type: ignore[attr-defined]
            save_directory=save_directory,
            lora_layers={name: part for name, part in layers.items() if part},
            lora_metadata={name: part for name, part in metadata.items() if layers[name]},
            **kwargs,
        )


def _text_part(source: Any, given: dict[str, Any]) -> tuple[dict[str, torch.Tensor], LoraConfig | None]:
    """Return the weights for the text encoder and their `LoraConfig`; ({}, None) if there are none."""
    state, metadata = source, None
    if not isinstance(source, dict):
        known = {name: given.get(name) for name in DOWNLOAD_OPTIONS}
        agent = {"file_type": "attn_procs_weights", "framework": "pytorch"}
        state, metadata = _fetch_state_dict(source, use_safetensors=True, user_agent=agent, allow_pickle=False, **known)
    own = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    if not own:
        return {}, None
    settings = {name.removeprefix(PREFIX): value for name, value in (metadata or {}).items() if name.startswith(PREFIX)}
    if not settings:
        down = {name.split(".lora_A")[0]: tensor for name, tensor in own.items() if ".lora_A" in name}
        ranks = {name: len(tensor) for name, tensor in down.items()}
        rank = max(ranks.values(), default=1)
        settings = {
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": ranks,
            "alpha_pattern": ranks,
            "target_modules": [*down],
        }
    return own, LoraConfig(**settings)


def _check_layers(text_encoder: Any, state: dict[str, torch.Tensor]) -> None:
    """Raise a ValueError if the text encoder lacks layers of the weights."""
    known = {name for name, _ in text_encoder.named_modules()}
    missing = sorted({name.split(".lora_")[0] for name in state} - known)
    if missing:
        raise ValueError(f"it has no layer {', '.join(missing[:3])}.")
