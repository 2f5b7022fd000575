"""Read LoRA adapters in any notation that is in use, and check that they fit a pipeline.

An adapter adds (alpha / r) · B A to the weights of a layer, with A (r, in) and B (out, r).

| notation | names of the matrices A | alpha |
|---|---|---|
| diffusers | `unet.LAYER.lora_A.weight` | metadata of the file |
| diffusers, older | `unet.LAYER.lora.down.weight`, `unet.LAYER.processor.to_q_lora.down.weight` | |
| PEFT | `LAYER.lora_A.weight`, `base_model.model.LAYER.lora_A.weight` | `adapter_config.json` |
| kohya | `lora_unet_LAYER.lora_down.weight`, where LAYER has `_` for `.` | `lora_unet_LAYER.alpha` |

Where alpha is missing, it is taken as r, as diffusers and kohya's scripts do, with a warning that says how to give it.
Published pipelines import this file from beside them.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import _fetch_state_dict
from diffusers.utils import _get_model_file
from peft import LoraConfig
from torch import Tensor, nn

PUBLISHED_AS = "meddiffusers_lora_weights_v1"  # also its file name here, so that imports find it in both places
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
OPTIONS = {*DOWNLOAD_OPTIONS, "metadata", "hotswap", "low_cpu_mem_usage", "use_safetensors", "return_lora_metadata"}
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
AGENT = {"file_type": "attn_procs_weights", "framework": "pytorch"}
KOHYA = {"unet": ("lora_unet_",), "text_encoder": ("lora_te_", "lora_te1_")}  # prefixes of the layers of each part
A, B, ALPHA = "lora_A.weight", "lora_B.weight", "alpha"
PEFT_PREFIX, PEFT_CONFIG = "base_model.model.", "adapter_config.json"
NAME = re.compile(rf"(?P<layer>.+)\.(?P<matrix>{A}|{B}|lora_B\.bias|lora_magnitude_vector(?:\.weight)?|{ALPHA})")
EXPECTED = "Expected a folder or .safetensors file of save_lora_weights, a repository on the Hub, or weights by name."
Layers = dict[str, dict[str, Tensor]]  # matrices and alpha of each layer, by name


@dataclass(frozen=True)
class Adapter:
    """An adapter for one part of a pipeline.

    Args:
        weights: Matrices by name in PEFT's notation, `LAYER.lora_A.weight`.
        config: Arguments of its `LoraConfig`.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]


class LoraWeightsMixin:
    """Comes before `UNetLoraMixin` among the bases of a pipeline."""

    _lora_loadable_modules: list[str]

    def _read_adapters(self, source: Any, options: Mapping[str, Any]) -> dict[str, Adapter]:
        """Read and check the adapters of all networks, see `read_adapter`."""
        networks = {name: getattr(self, name, None) for name in self._lora_loadable_modules}
        return read_adapter(source, {name: part for name, part in networks.items() if part is not None}, options)


def read_adapter(
    source: str | PathLike[str] | Mapping[str, Tensor], parts: Mapping[str, nn.Module], options: Mapping[str, Any]
) -> dict[str, Adapter]:
    """Read an adapter and check it, before any part of a pipeline is changed.

    Args:
        source: Folder, file, repository on the Hub, or weights by name.
        parts: Networks by their names in the pipeline, "unet" and maybe "text_encoder".
        options: Arguments of diffusers: `DOWNLOAD_OPTIONS`, and `metadata`, whose entries replace those of the source.

    Returns:
        The adapters for these parts; at least that of the unet.

    Raises:
        ValueError: There is no adapter, it is for other layers or other sizes, half of it is missing, or weights are
            NaN or infinite.
    """
    if unknown := sorted(set(options) - OPTIONS):
        raise ValueError(
            f"load_lora_weights does not take {', '.join(unknown)}; expected some of {', '.join(sorted(OPTIONS))}. "
            'Alpha is given as metadata={"unet.lora_alpha": …}.'
        )
    weights, settings = _fetch(source, options)
    layers = _layers_of_parts(_matrices(weights, source), parts)
    if "unet" not in layers:
        raise ValueError(f"{_describe(source)} holds no adapter weights whose names begin with 'unet.'.")
    adapters = {}
    for part, own in layers.items():
        check_matrices(own)
        _check_sizes(part, own, parts[part])
        adapters[part] = Adapter(
            {f"{layer}.{name}": t for layer, matrices in own.items() for name, t in matrices.items() if name != ALPHA},
            _settle(own, _entries_of(part, settings)),
        )
    unknown = [part for part, own in layers.items() if not _knows_alpha(own, _entries_of(part, settings))]
    if unknown:
        missing = f"has PEFT's names without {PEFT_CONFIG}" if all(map(_is_plain, weights)) else "holds no alpha"
        warnings.warn(
            f"{_describe(source)} {missing}, so alpha is unknown and taken as the rank. If it differs, give metadata={{"
            + ", ".join(f'"{part}.lora_alpha": …' for part in unknown)
            + "}.",
            stacklevel=4,
        )
    return adapters


def matrices_by_layer(weights: Mapping[str, Tensor]) -> tuple[Layers, list[str]]:
    """Group weights of any notation by the layer as they name it; A comes first.

    Returns:
        The layers, and the names of weights that are not of a LoRA adapter.
    """
    layers: Layers = {}
    foreign = []
    for name, tensor in weights.items():
        match = NAME.fullmatch(_in_peft_notation(name))
        if match is None:
            foreign.append(name)
            continue
        matrices = layers.setdefault(match["layer"], {})
        if match["matrix"] in matrices:
            raise ValueError(f"{match['layer']} has two {match['matrix']}, such as {name}; expected only one adapter.")
        matrices[match["matrix"]] = tensor
    return {
        layer: dict(sorted(matrices.items(), key=lambda item: item[0] != A)) for layer, matrices in layers.items()
    }, (foreign)


def check_matrices(layers: Layers) -> None:
    """Raise a ValueError if A or B of a layer is missing, or a weight is no tensor or not finite."""
    for layer, matrices in layers.items():
        if missing := [name for name in (A, B) if name not in matrices]:
            raise ValueError(
                f"Half of the adapter is missing: {layer} has {', '.join(matrices)} without {' and '.join(missing)}. "
                "Save or download it again."
            )
        for name, tensor in matrices.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{layer}.{name} of the adapter is a {type(tensor).__name__}; expected a tensor.")
            if name == ALPHA and tensor.numel() != 1:
                raise ValueError(
                    f"{layer}.{name} of the adapter has the shape {tuple(tensor.shape)}; expected a number."
                )
            if count := int((~torch.isfinite(tensor)).sum()):
                raise ValueError(
                    f"{count} of {tensor.numel()} weights of the adapter's {layer}.{name} are NaN or infinite: its "
                    "training diverged or the file is damaged. Take an earlier checkpoint, or train it again."
                )


def _check_metadata(metadata: Any, parts: Iterable[str]) -> dict[str, Any]:
    """Return settings that a user gives, {} for None; raise a ValueError if they are for no part of a pipeline.

    Args:
        metadata: Entries of `LoraConfig` such as {"unet.lora_alpha": 16}.
        parts: Names of the networks that take adapters.
    """
    if metadata is None:
        return {}
    prefixes = tuple(f"{part}." for part in parts)
    if not isinstance(metadata, Mapping) or not all(str(name).startswith(prefixes) for name in metadata):
        raise ValueError(
            f"metadata={metadata!r}; expected entries of LoraConfig by name, which begin with {' or '.join(prefixes)}: "
            '{"unet.lora_alpha": 16}.'
        )
    return dict(metadata)


def _entries_of(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of `LoraConfig` for a part of a pipeline, without its name."""
    return {name.removeprefix(f"{part}."): v for name, v in settings.items() if name.startswith(f"{part}.")}


def _knows_alpha(layers: Layers, entries: Mapping[str, Any]) -> bool:
    """Whether alpha is among the entries, or beside the matrices of the layers."""
    return "lora_alpha" in entries or all(ALPHA in matrices for matrices in layers.values())


def _settle(layers: Layers, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a `LoraConfig`: the entries, and what they leave out as the matrices show it.

    Raises:
        ValueError: Entries that this version of PEFT lacks, or alpha that is no number or missing for some layers.
    """
    given = _known_entries(entries)
    without = [layer for layer, matrices in layers.items() if ALPHA not in matrices]
    if 0 < len(without) < len(layers) and "lora_alpha" not in given:
        raise ValueError(
            f"Alpha of {len(without)} of the adapter's {len(layers)} layers is missing, such as {without[0]}; expected "
            'it for all. Save or download the adapter again, or give metadata={"unet.lora_alpha": …}.'
        )
    shown = lora_config(layers)
    if "lora_alpha" in given:
        shown["alpha_pattern"] = {}
    return {**shown, **given}


def lora_config(layers: Layers, alphas: Mapping[str, float] | None = None, **entries: Any) -> dict[str, Any]:
    """Describe the matrices as arguments of a `LoraConfig`.

    Args:
        layers: A and B of each layer, maybe with its alpha.
        alphas: Alpha of each layer; by default that beside the matrices, else the rank.
        entries: Further arguments.
    """
    ranks = {layer: len(matrices[A]) for layer, matrices in layers.items()}
    own = {layer: float(matrices[ALPHA]) for layer, matrices in layers.items() if ALPHA in matrices}
    scales = {layer: (alphas or own).get(layer) or rank for layer, rank in ranks.items()}  # kohya's 0 means the rank
    (rank, _), *_ = Counter(ranks.values()).most_common(1)
    (alpha, _), *_ = Counter(scales.values()).most_common(1)
    kinds = {name for matrices in layers.values() for name in matrices}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(layer)}": one for layer, one in ranks.items() if one != rank},
        "alpha_pattern": {f"^{re.escape(layer)}": one for layer, one in scales.items() if one != alpha},
        "target_modules": sorted(layers),
        "use_dora": any("magnitude" in name for name in kinds),
        "lora_bias": "lora_B.bias" in kinds,
        **entries,
    }


def _known_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that this version of PEFT knows; raise a ValueError if others are set, or alpha is no number."""
    known = {field.name for field in fields(LoraConfig)}
    if unknown := [name for name, value in config.items() if name not in known and value and name != "peft_version"]:
        raise ValueError(
            f"The adapter's settings have {', '.join(unknown)}, which this version of peft lacks. Upgrade it."
        )
    if not isinstance(alpha := config.get("lora_alpha", 8), (int, float)) or not abs(alpha) < float("inf"):
        raise ValueError(f"The adapter's settings have lora_alpha={alpha!r}; expected a number.")
    return {name: value for name, value in config.items() if name in known}


def _fetch(source: Any, options: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by name, and entries of `LoraConfig` as "unet.r" or "text_encoder.r", if they are known."""
    given = _check_metadata(options.get("metadata"), KOHYA)
    if isinstance(source, Mapping):
        return dict(source), given
    if not isinstance(source, (str, PathLike)):
        raise TypeError(f"Got a {type(source).__name__}. {EXPECTED}")
    known = {name: options.get(name) for name in DOWNLOAD_OPTIONS}
    if not Path(source).exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(f"There is no file or folder {source}. {EXPECTED}")
    if Path(source).suffix in PICKLED:
        raise ValueError(f"{source} is pickled, which may run code when it is read. Convert it to safetensors.")
    try:
        weights, settings = _fetch_state_dict(
            source, use_safetensors=True, user_agent=AGENT, allow_pickle=False, **known
        )
    except Exception as error:  # of files, of safetensors, or of the connection to the Hub
        raise ValueError(f"Found no adapter in {source}: {str(error).rstrip('.')}. {EXPECTED}") from error
    if settings is None and any(name.startswith(PEFT_PREFIX) for name in weights):
        settings = _peft_settings(source, known)
    return weights, {**(settings or {}), **given}


def _peft_settings(source: Any, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Entries of the `LoraConfig` that PEFT saves beside the weights, for whatever part they are."""
    folder = Path(source).parent if Path(source).is_file() else source
    known = {name: value for name, value in options.items() if name != "weight_name"}
    try:
        file = _get_model_file(folder, weights_name=PEFT_CONFIG, user_agent=AGENT, **known)
    except OSError:  # the caller says what is missing
        return None
    config = json.loads(Path(file).read_text(encoding="utf-8"))
    if config.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"{source} holds an adapter of type {config['peft_type']}; expected LORA.")
    return {f"{part}.{name}": value for name, value in config.items() for part in KOHYA}


def _is_plain(name: str) -> bool:
    return not name.startswith(("unet.", "text_encoder.", "lora_"))


def _in_peft_notation(name: str) -> str:
    """`LAYER.lora_A.weight` for the name of a matrix in any notation; the layer's own name is left as it is."""
    name = name.removeprefix(PEFT_PREFIX)
    name = re.sub(r"(?:\.processor)?\.(to_[qkv])_lora\.", r".\1.lora.", name)
    name = re.sub(r"(?:\.processor)?\.to_out_lora\.", ".to_out.0.lora.", name)
    name = re.sub(r"\.lora(?:_linear_layer)?\.(down|up)\.", r".lora_\1.", name)
    name = name.replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B.")
    return re.sub(r"\.(lora_[AB])\.[^.]+\.(weight|bias)$", r".\1.\2", name)  # without the name of the adapter


def _matrices(weights: Mapping[str, Tensor], source: Any) -> Layers:
    layers, foreign = matrices_by_layer(weights)
    if not layers:
        first = next(iter(weights), None)
        raise ValueError(
            f"Got {_describe(source)} without keys 'unet.….lora_A'; it begins with {first}. Adapters of other kinds "
            "(LoHa, LoKr) cannot be loaded."
        )
    if foreign:
        raise ValueError(
            f"{_describe(source)} has {len(foreign)} weights that are not of a LoRA adapter, such as {foreign[0]}. "
            "Weights of other kinds (LoHa, LoKr, LoCon) or of a whole network cannot be loaded as one."
        )
    return layers


def _layers_of_parts(layers: Layers, parts: Mapping[str, nn.Module]) -> dict[str, Layers]:
    """Assign layers to the parts of the pipeline, under the names that these give them."""
    known = _spellings(parts)
    found: dict[str, Layers] = {}
    for layer, matrices in layers.items():
        if layer in known:
            part, name = known[layer]
            if name in found.setdefault(part, {}):
                raise ValueError(f"The adapter has {part}.{name} under two names, such as {layer}; expected one.")
            found[part][name] = matrices
    if unknown := [layer for layer in layers if layer not in known]:
        part = "text encoder" if unknown[0].startswith(("text_encoder.", *KOHYA["text_encoder"])) else "unet"
        network = parts.get(part.replace(" ", "_"))
        examples = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)] if network else []
        raise ValueError(
            f"The adapter's part for the {part} does not fit: {'it' if network else 'this pipeline'} has no layer "
            f"{', '.join(_without_prefix(layer) for layer in unknown[:3])}"
            + (f" ({len(unknown)} of {len(layers)} layers)" if len(unknown) > 3 else "")
            + (f"; its layers have names such as {examples[0]}" if examples else "")
            + ". It was trained for another network, or its layers must be renamed."
        )
    return found


def _spellings(parts: Mapping[str, nn.Module]) -> dict[str, tuple[str, str]]:
    """Part and name of each layer, by every name that a notation gives it."""
    names = [(part, name) for part, network in parts.items() for name, _ in network.named_modules() if name]
    known = {name: (part, name) for part, name in reversed(names)}
    for part, name in names:
        for older in ("", "text_model."):  # which CLIP's layers had in earlier versions of transformers
            known[f"{part}.{older}{name}"] = part, name
            for prefix in KOHYA[part]:
                known[prefix + f"{older}{name}".replace(".", "_")] = part, name
    return known


def _without_prefix(layer: str) -> str:
    for part in KOHYA:
        layer = layer.removeprefix(f"{part}.")
    return layer


def _check_sizes(part: str, layers: Layers, network: nn.Module) -> None:
    """Raise a ValueError if matrices do not fit each other, or the layers of the network."""
    for layer, matrices in layers.items():
        module = network.get_submodule(layer)
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        down, up = tuple(matrices[A].shape), tuple(matrices[B].shape)
        own = None if weight is None else tuple(weight.shape)
        if min(len(down), len(up)) < 2 or down[0] != up[1] or (own and (down[1:], up[0]) != (own[1:], own[0])):
            raise ValueError(
                f"The adapter was trained for a network with layers of other sizes: {part}.{layer} has A {down} and "
                f"B {up} for weights {own}; expected (r, in) and (out, r) for (out, in)."
            )


def _describe(source: Any) -> str:
    return "a state dict" if isinstance(source, Mapping) else str(source)
