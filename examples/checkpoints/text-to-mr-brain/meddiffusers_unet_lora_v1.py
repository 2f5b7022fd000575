"""Load, save and fuse LoRA adapters of a pipeline's `unet`, and keep them out of the saved base weights.

Several published pipelines import this file from beside them; it is published with each.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from peft.tuners.lora import LoraLayer

from .meddiffusers_checks_v1 import check_numbers
from .meddiffusers_lora_weights_v1 import A, Layers, check_matrices, lora_config, matrices_by_layer

PUBLISHED_AS = "meddiffusers_unet_lora_v1"  # the file has the same name in a repository
LOADING_OPTIONS = ("hotswap", "low_cpu_mem_usage")


class UNetLoraMixin(LoraBaseMixin):
    """Comes after `LoraWeightsMixin` and before `DiffusionPipeline` among the bases of a pipeline.

    Everything else is inherited from diffusers: `set_adapters`, `unload_lora_weights`, `delete_adapters` and so on.
    """

    _lora_loadable_modules = ["unet"]
    _adaptable: str  # defined by each pipeline: how to convert a unet that takes no adapters to one that does
    unet: Any
    _read_adapters: Callable[..., dict[str, Any]]  # of `LoraWeightsMixin`

    def load_lora_weights(  # type: ignore[override]
        self,
        pretrained_model_name_or_path_or_dict: str | PathLike[str] | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Load an adapter; all of it or nothing.

        Names of diffusers, PEFT and kohya are understood, see `meddiffusers_lora_weights_v1`.

        Args:
            pretrained_model_name_or_path_or_dict: A folder, a file, a repository or a state dict.
            adapter_name: Name by which the adapter is set, scaled or deleted; by default "default_0", ….
            kwargs: As in diffusers, such as `weight_name`, `revision` or `hotswap`.

        Raises:
            ValueError: If there is no adapter for this pipeline, half of it is missing, or weights are NaN or infinite.
            TypeError: If the unet takes no adapters.
        """
        if not hasattr(self.unet, "load_lora_adapter"):
            raise TypeError(
                f"The unet is a {type(self.unet).__name__}, which takes no adapters; expected a "
                f"{self._adaptable.split('.')[0]}. {self._adaptable} converts it, with the same weights."
            )
        if adapter_name is not None and (not isinstance(adapter_name, str) or not adapter_name or "." in adapter_name):
            raise ValueError(f"adapter_name={adapter_name!r}; expected a text without a dot, or None.")
        adapters = self._read_adapters(pretrained_model_name_or_path_or_dict, kwargs)
        self._load_adapters(adapters, adapter_name, **{k: v for k, v in kwargs.items() if k in LOADING_OPTIONS})

    @classmethod
    def save_lora_weights(  # type: ignore[override]
        cls,
        save_directory: str | PathLike[str],
        unet_lora_layers: dict[str, torch.nn.Module | torch.Tensor],
        unet_lora_adapter_metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save adapter weights as safetensors, with the settings that their effect depends on.

        Args:
            save_directory: Folder to write to.
            unet_lora_layers: Weights, as `get_peft_model_state_dict(pipe.unet)` returns them.
            unet_lora_adapter_metadata: The `LoraConfig` as a dictionary; by default that of the layers in memory that
                the weights belong to. If there are none, a warning says that alpha is taken as the rank.
            kwargs: Other arguments of diffusers, such as `weight_name`.

        Raises:
            ValueError: If a matrix is missing, or weights are NaN or infinite.
        """
        cls._save_adapters(save_directory, {"unet": (unet_lora_layers, unet_lora_adapter_metadata)}, **kwargs)

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters to the weights, as in diffusers; raise a ValueError for unknown ones, or a scale of NaN."""
        check_numbers(lora_scale=lora_scale)
        if unknown := sorted(set(adapter_names or ()) - self._adapters()):
            raise ValueError(
                f"There is no adapter {', '.join(unknown)}; expected some of {', '.join(sorted(self._adapters()))}."
            )
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
        parts = (getattr(self, name, None) for name in self._lora_loadable_modules)
        return {name for part in parts for name in getattr(part, "peft_config", None) or ()}

    @classmethod
    def _save_adapters(
        cls, save_directory: str | PathLike[str], parts: Mapping[str, tuple[Any, dict[str, Any] | None]], **kwargs: Any
    ) -> None:
        """Save weights and settings by the name of the part."""
        weights: dict[str, Any] = {name: _state_dict(layers) for name, (layers, _) in parts.items() if layers}
        settings = {
            name: parts[name][1] or _settings_in_memory(matrices_by_layer(own)[0]) for name, own in weights.items()
        }
        if unknown := [name for name, one in settings.items() if not one]:
            warnings.warn(
                f"Alpha of the adapter of the {' and '.join(unknown)} is unknown, since its weights belong to no "
                "network in memory; loading takes it as the rank. If it differs, give unet_lora_adapter_metadata="
                "pipe.unet.peft_config[name].to_dict().",
                stacklevel=3,
            )
        cls._save_lora_weights(save_directory=save_directory, lora_layers=weights, lora_metadata=settings, **kwargs)

    def _load_adapters(self, adapters: Mapping[str, Any], adapter_name: str | None, **options: Any) -> None:
        """Add checked adapters to the networks; `TextEncoderLoraMixin` adds that of the text encoder."""
        adapter = adapters["unet"]
        try:
            self.unet.load_lora_adapter(
                adapter.weights,
                prefix=None,
                adapter_name=adapter_name,
                metadata=adapter.config,
                _pipeline=self,
                **options,
            )
        except RuntimeError as error:
            raise ValueError(f"The adapter does not fit the unet or its own settings: {error}") from error


def _state_dict(layers: Any) -> dict[str, torch.Tensor]:
    """Weights by name, checked."""
    if not isinstance(layers, (torch.nn.Module, Mapping)):
        raise ValueError(f"Got weights of type {type(layers).__name__}; expected them by name, or a module.")
    weights = layers.state_dict() if isinstance(layers, torch.nn.Module) else dict(layers)
    matrices, foreign = matrices_by_layer(weights)
    if foreign or not matrices:
        raise ValueError(
            f"Got weights named {', '.join(foreign[:3]) or '(none)'}; expected those of a LoRA adapter, as "
            "get_peft_model_state_dict(pipe.unet) returns them."
        )
    check_matrices(matrices)
    return weights


def _settings_in_memory(layers: Layers) -> dict[str, Any] | None:
    """Settings of the layers in memory that hold these matrices, or equal ones; None if there are none.

    A state dict holds neither alpha nor a reference to its network, so all layers with adapters are searched.
    """
    owners: dict[Any, set[tuple[float, bool]]] = {}
    for layer in _layers_in_memory():
        for name, matrix in layer.lora_A.items():
            scale = float(layer.lora_alpha[name]), bool(getattr(layer, "use_rslora", {}).get(name))
            for key in _identity(matrix.weight):
                owners.setdefault(key, set()).add(scale)
    found = {}
    for layer_name, matrices in layers.items():
        scales = next((owners[key] for key in _identity(matrices[A]) if key in owners), set())
        if len(scales) != 1:
            return None
        (found[layer_name],) = scales
    alphas = {name: alpha for name, (alpha, _) in found.items()}
    return lora_config(layers, alphas, use_rslora=any(rslora for _, rslora in found.values()))


def _layers_in_memory() -> Iterator[LoraLayer]:
    return (thing for thing in gc.get_objects() if issubclass(type(thing), LoraLayer))


def _identity(weight: Any) -> tuple[Any, ...]:
    """What tells a weight from others: first where it lies, then its values in half precision, as they may be saved."""
    if weight.is_meta:
        return ()
    return (weight.data_ptr(), weight.device), weight.detach().to("cpu", torch.float16).numpy().tobytes()
