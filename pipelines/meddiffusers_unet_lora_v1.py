"""Load, save and fuse LoRA adapters of a pipeline's `unet`, and keep them out of the saved base weights.

Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin

PUBLISHED_AS = "meddiffusers_unet_lora_v1"  # the file has the same name in a repository


class UNetLoraMixin(LoraBaseMixin):
    """Comes before `DiffusionPipeline` among the bases of a pipeline.

    Everything else is inherited from diffusers: `set_adapters`, `unload_lora_weights`, `delete_adapters` and so on.
    """

    _lora_loadable_modules = ["unet"]
    _adaptable: str  # defined by each pipeline: how to convert a unet that takes no adapters to one that does
    unet: Any

    def load_lora_weights(  # type: ignore[override]
        self,
        pretrained_model_name_or_path_or_dict: str | PathLike[str] | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Load an adapter for the unet.

        Args:
            pretrained_model_name_or_path_or_dict: A folder, a repository or a state dict.
            adapter_name: Name by which the adapter is set, scaled or deleted.
            kwargs: As in diffusers.

        Raises:
            ValueError: If it holds no adapter for this unet.
            TypeError: If the unet takes no adapters.
        """
        if not hasattr(self.unet, "load_lora_adapter"):
            raise TypeError(
                f"The unet is a {type(self.unet).__name__}, which takes no adapters; expected a "
                f"{self._adaptable.split('.')[0]}. {self._adaptable} converts it, with the same weights."
            )
        source = pretrained_model_name_or_path_or_dict
        if isinstance(source, dict) and not any(key.startswith("unet.") and "lora" in key for key in source):
            first = next(iter(source), None)
            raise ValueError(f"Got a state dict without keys 'unet.….lora_A'; it begins with {first}.")
        before = self._adapters()
        settings = {"prefix": "unet", "use_safetensors": True, **kwargs}
        try:
            self.unet.load_lora_adapter(source, adapter_name=adapter_name, _pipeline=self, **settings)
        except RuntimeError as error:
            raise ValueError("The adapter was trained for a network with layers of other sizes.") from error
        if self._adapters() == before and not kwargs.get("hotswap"):
            raise ValueError(f"{source} holds no adapter weights whose names begin with 'unet.'.")

    @classmethod
    def save_lora_weights(  # type: ignore[override]
        cls,
        save_directory: str | PathLike[str],
        unet_lora_layers: dict[str, torch.nn.Module | torch.Tensor],
        unet_lora_adapter_metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save adapter weights, as `get_peft_model_state_dict(pipe.unet)` returns them, as safetensors."""
        cls._save_lora_weights(
            save_directory=save_directory,
            lora_layers={"unet": unet_lora_layers},
            lora_metadata={"unet": unet_lora_adapter_metadata},
            **kwargs,
        )

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters to the weights, as in diffusers."""
        super().fuse_lora(
            components or [*self._lora_loadable_modules], lora_scale, safe_fusing, adapter_names, **kwargs
        )

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Subtract fused adapters from the weights, as in diffusers."""
        super().unfuse_lora(components or [*self._lora_loadable_modules], **kwargs)

    def save_pretrained(self, save_directory: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the pipeline, as in diffusers; raise a ValueError if an adapter would be written into the weights."""
        if self._adapters():
            raise ValueError(
                "The pipeline has a LoRA adapter, which would be written into the base weights. Save the adapter with "
                "save_lora_weights, or merge it into the weights: fuse_lora() and then unload_lora_weights()."
            )
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _adapters(self) -> set[str]:
        """Names of the loaded adapters."""
        parts = (getattr(self, name) for name in self._lora_loadable_modules)
        return {name for part in parts for name in getattr(part, "peft_config", None) or ()}
