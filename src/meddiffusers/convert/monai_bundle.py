"""Convert latent diffusion models of MONAI's model zoo to a `LatentDiffusionPipeline`: brain volumes, BraTS, slices.

A bundle is a folder with `configs/*.json`, which describe the networks, and `models/*.pt`. No code of it is run: only
plain values of the configuration, references `@name` to them, and tensors are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from meddiffusers.convert.monai_config import covariate_names, description, latent_size, read_formats, read_settings
from meddiffusers.convert.monai_references import References
from meddiffusers.convert.monai_scheduler import scheduler_of
from meddiffusers.convert.monai_weights import includes_fc, renamed
from meddiffusers.convert.weights import load_checkpoint
from meddiffusers.models.conditioned_unet import DERIVED, ConditionedUNet
from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

MAX_SIDE = 4096  # of latents


def convert_bundle(
    folder: str | Path,
    *,
    scaling_factor: float | None = None,
    covariates: Mapping[str, Sequence[Any]] | None = None,
    modalities: Sequence[str] | None = None,
    spacing: float | None = None,
    latent_sides: Sequence[int] | None = None,
) -> LatentDiffusionPipeline:
    """Convert a bundle to a pipeline in float32 and in evaluation mode.

    Args:
        folder: Folder of the bundle.
        scaling_factor: Factor of the latents in training. Bundles seldom state it; 1 if none was used.
        covariates: Names and ranges of the covariates in the order of the network's additional channels, such as
            `{"sex": ["F", "M"], "age": [44, 82]}`; by default numbers from 0 to 1 with the names in the bundle's
            metadata, or `covariate_0`, ….
        modalities: Names of the image channels in their order; by default `channel 0`, ….
        spacing: Edge length of a pixel or voxel in mm; None if unknown.
        latent_sides: Sides of the latents; by default those that the bundle states.

    Raises:
        ValueError: The configurations do not describe both networks and a noise scheduler that has an equal, contradict
            the weights or lack the scaling factor or the size of the latents, or the number of covariates or modalities
            differs from that of the channels.
        UnreadableError: Weights or configurations are missing or damaged.

    Example:
        >>> pipe = convert_bundle("brain_image_synthesis", scaling_factor=1.0, modalities=["t1"], spacing=1.0)
        >>> pipe.save_pretrained("brain-ldm")
    """
    folder = Path(folder)
    settings, formats = read_settings(folder / "configs"), read_formats(folder / "configs")
    described = {name: description(settings, name) for name in ("AutoencoderKL", "DiffusionModelUNet")}
    scheduler = scheduler_of(settings)
    stated = References(settings).value(settings.get("scale_factor"), ("scale_factor",))
    factor = stated if scaling_factor is None else scaling_factor
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ValueError(
            f"{folder.name} does not state the factor of the latents (scale_factor is {factor!r}). Give "
            "--scaling-factor: one over the latents' standard deviation on training data, or 1 if none was used."
        )
    network = described["DiffusionModelUNet"]
    channels, dims = network["out_channels"], network["spatial_dims"]
    reduction = 2 ** (len(described["AutoencoderKL"]["channels"]) - 1)
    sides = latent_sides or latent_size(settings, formats, channels, dims, reduction)
    _check_size(folder.name, sides, dims, reduction, 2 ** (len(network["channels"]) - 1))
    if modalities is not None and not len({name for name in modalities if name.strip()}) == len(modalities):
        raise ValueError(f"Got the modalities {list(modalities)}; expected different names, none of them blank.")
    if covariates is None and network["in_channels"] > channels:
        names = covariate_names(formats, network["in_channels"] - channels)
        covariates = {name: [0.0, 1.0] for name in names}
    files = _files(folder / "models")
    vae = autoencoder_of(load_checkpoint(files["autoencoder"]), described["AutoencoderKL"], float(factor))
    unet = unet_of(load_checkpoint(files["diffusion"]), network, sides or (), covariates)
    names_of_channels = None if modalities is None else list(modalities)
    return LatentDiffusionPipeline(vae, unet, scheduler, names_of_channels, spacing, image_range=(0.0, 1.0))


def autoencoder_of(weights: Mapping[str, Tensor], described: Mapping[str, Any], factor: float) -> MonaiAutoencoderKL:
    """Build the autoencoder from weights under old or new names.

    Args:
        weights: Weights by name.
        described: Arguments of MONAI's `AutoencoderKL`, without `include_fc`.
        factor: `scaling_factor` of the latents.
    """
    vae = _built(MonaiAutoencoderKL, **{**described, "include_fc": includes_fc(weights)}, scaling_factor=factor)
    vae.load_state_dict(renamed(weights, vae.state_dict()))
    return vae.eval()


def unet_of(
    weights: Mapping[str, Tensor],
    described: Mapping[str, Any],
    size: Sequence[int] = (),
    covariates: Mapping[str, Sequence[Any]] | None = None,
) -> ConditionedUNet:
    """Build the denoiser from weights under old or new names.

    Args:
        weights: Weights by name.
        described: Arguments of MONAI's `DiffusionModelUNet`, without `include_fc`.
        size: Sides of the latents; by default 8 at the coarsest level.
        covariates: Names and ranges of the covariates, see `convert_bundle`.
    """
    channels, dims = described["out_channels"], described["spatial_dims"]
    count = described["in_channels"] - channels
    if covariates is None and count:
        covariates = {f"covariate_{i}": [0.0, 1.0] for i in range(count)}
    if len(covariates or {}) != count or described.get("cross_attention_dim", count or None) not in (count, None):
        raise ValueError(
            f"The network has {count} channels beside the latents' {channels} and tokens of width "
            f"{described.get('cross_attention_dim')}; got {len(covariates or {})} covariates. Name one for each "
            "channel (networks with other tokens, such as text, cannot be converted)."
        )
    network = {name: value for name, value in described.items() if name not in DERIVED}
    unet = _built(
        ConditionedUNet,
        spatial_dims=dims,
        latent_channels=channels,
        sample_size=list(size) or [8 * 2 ** (len(described["channels"]) - 1)] * dims,
        covariates=covariates,
        network={**network, "include_fc": includes_fc(weights)},
    )
    unet.unet.load_state_dict(renamed(weights, unet.unet.state_dict()))
    return unet.eval()


def _built(cls: type, **arguments: Any) -> Any:
    try:
        return cls(**arguments)
    except Exception as error:  # MONAI's networks raise many kinds for settings that do not fit together
        text = " ".join(str(error).split())
        raise ValueError(f"The configurations describe no {cls.__name__}: {text}. Correct them.") from error


def _check_size(bundle: str, sides: Sequence[int] | None, dims: int, reduction: int, multiple: int) -> None:
    if sides is None or len(sides) != dims or any(type(side) is not int or not 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(
            f"{bundle} does not state the size of the latents, or got {list(sides or [])}. Give --latent-size: "
            f"{dims} numbers, the sides of the images in training divided by {reduction}."
        )
    if any(side % multiple for side in sides):
        raise ValueError(
            f"{bundle} has latents of {list(sides)}; expected sides divisible by {multiple}, as its network halves "
            "them. Give those of the training: --latent-size."
        )


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of both networks."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"))
    autoencoders = [path for path in files if "autoencoder" in path.name]
    others = [path for path in files if "autoencoder" not in path.name]
    if len(autoencoders) != 1 or len(others) != 1:
        raise ValueError(
            f"{folder} holds {', '.join(path.name for path in files) or 'no weights'}; expected two files of weights, "
            "one with autoencoder in its name. Remove the others."
        )
    return {"autoencoder": autoencoders[0], "diffusion": others[0]}
