"""Latent diffusion models of MONAI's zoo, as a `LatentDiffusionPipeline`: brains, BraTS volumes and slices.

A bundle is a folder with `configs/*.json`, in which the networks are described, and `models/*.pt`. Nothing of it is
run: of the configuration plain values are read, and what `@name` refers to; of the weights tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from meddiffusers.convert.monai_weights import includes_fc, renamed
from meddiffusers.convert.weights import load_checkpoint
from meddiffusers.models.conditioned_unet import DERIVED, ConditionedUNet
from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

OLD_SETTINGS = {"num_channels": "channels"}  # what GenerativeModels called them
NOT_HERE = ("_target_", "use_checkpointing", "use_checkpoint")
CONFIGS = ("inference.json", "train_diffusion.json", "train_autoencoder.json")


def convert_bundle(
    folder: str | Path,
    *,
    scaling_factor: float | None = None,
    covariates: Mapping[str, Sequence[Any]] | None = None,
    spacing: float | None = None,
) -> LatentDiffusionPipeline:
    """The pipeline of a bundle's folder, in float32 and in evaluation mode.

    scaling_factor: by which latents were multiplied in training. Bundles seldom say it: 1 if none was used.
    covariates: names and ranges of what the network was told in its additional channels, in their order; by default as
        many numbers from 0 to 1.

    Raises:
        ValueError: no description of both networks, one that contradicts the weights, a scaling factor that is not
            known, or covariates of another number.
        UnreadableError: weights or configurations that are missing or damaged.
    """
    folder = Path(folder)
    settings = _settings(folder / "configs")
    described = {name: _description(settings, name) for name in ("AutoencoderKL", "DiffusionModelUNet")}
    factor = scaling_factor if scaling_factor is not None else settings.get("scale_factor")
    if not isinstance(factor, int | float):
        raise ValueError(
            f"{folder.name} does not say by what latents are multiplied (scale_factor is {factor!r}). Give "
            "--scaling-factor: one over the latents' standard deviation on training data, or 1 if none was used."
        )
    files = _files(folder / "models")
    vae = autoencoder_of(load_checkpoint(files["autoencoder"]), described["AutoencoderKL"], float(factor))
    size = [int(side) for side in _resolved(settings, settings.get("latent_shape", ()))][-vae.config["spatial_dims"] :]
    unet = unet_of(load_checkpoint(files["diffusion"]), described["DiffusionModelUNet"], size, covariates)
    scheduler = _scheduler(settings)
    return LatentDiffusionPipeline(vae, unet, scheduler, spacing=spacing, image_range=(0.0, 1.0))


def autoencoder_of(weights: Mapping[str, Tensor], described: Mapping[str, Any], factor: float) -> MonaiAutoencoderKL:
    """Of weights under old or new names, and the arguments of MONAI's `AutoencoderKL` without `include_fc`."""
    vae = MonaiAutoencoderKL(**{**described, "include_fc": includes_fc(weights)}, scaling_factor=factor)
    vae.load_state_dict(renamed(weights, vae.state_dict()))
    return vae.eval()


def unet_of(
    weights: Mapping[str, Tensor],
    described: Mapping[str, Any],
    size: Sequence[int] = (),
    covariates: Mapping[str, Sequence[Any]] | None = None,
) -> ConditionedUNet:
    """Of weights under old or new names, and the arguments of MONAI's `DiffusionModelUNet` without `include_fc`.

    size: sides of the latents, by default 8 for each level that halves them.
    """
    channels, dims = described["out_channels"], described["spatial_dims"]
    told = described["in_channels"] - channels
    if covariates is None and told:
        covariates = {f"covariate_{number}": [0.0, 1.0] for number in range(told)}
    if len(covariates or {}) != told or described.get("cross_attention_dim", told or None) not in (told, None):
        raise ValueError(
            f"The network has {told} channels beside the latents' {channels} and tokens of "
            f"{described.get('cross_attention_dim')}; got {len(covariates or {})} covariates. Name as many as channels "
            "(a network of other tokens, of text, cannot be converted)."
        )
    network = {name: value for name, value in described.items() if name not in DERIVED}
    unet = ConditionedUNet(
        spatial_dims=dims,
        latent_channels=channels,
        sample_size=list(size) or [8 * 2 ** (len(described["channels"]) - 1)] * dims,
        covariates=covariates,
        network={**network, "include_fc": includes_fc(weights)},
    )
    unet.unet.load_state_dict(renamed(weights, unet.unet.state_dict()))
    return unet.eval()


def _settings(folder: Path) -> dict[str, Any]:
    """All that the configurations say; the first of `CONFIGS` wins."""
    found: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).is_file():
            found = {**json.loads((folder / name).read_text(encoding="utf-8")), **found}
    if not found:
        raise ValueError(f"{folder} holds none of {', '.join(CONFIGS)}; expected the folder of a bundle.")
    return found


def _description(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments of the network of that class."""
    for entry in settings.values():
        if isinstance(entry, dict) and str(entry.get("_target_", "")).rpartition(".")[2] == name:
            given = {str(OLD_SETTINGS.get(key, key)): _resolved(settings, value) for key, value in entry.items()}
            return {key: value for key, value in given.items() if key not in (*NOT_HERE, "include_fc")}
    raise ValueError(f"The configurations describe no {name}; expected those of a latent diffusion model.")


def _resolved(settings: Mapping[str, Any], value: Any) -> Any:
    """A value, or what `@name` refers to."""
    if isinstance(value, list | tuple):
        return [_resolved(settings, each) for each in value]
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in settings:
            raise ValueError(f"The configurations refer to {value}, which they do not define. Add it to one of them.")
        return _resolved(settings, settings[value[1:]])
    return value


def _files(folder: Path) -> dict[str, Path]:
    """The files of both networks."""
    found = sorted(path for path in folder.glob("*") if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"))
    autoencoders = [path for path in found if "autoencoder" in path.name]
    others = [path for path in found if "autoencoder" not in path.name]
    if len(autoencoders) != 1 or len(others) != 1:
        raise ValueError(
            f"{folder} holds {', '.join(path.name for path in found) or 'no weights'}; expected two files of weights, "
            "one with autoencoder in its name. Remove the others."
        )
    return {"autoencoder": autoencoders[0], "diffusion": others[0]}


def _scheduler(settings: Mapping[str, Any]) -> DDIMScheduler:
    """Of the bundle's schedule, on the grid of steps that MONAI's DDIM takes."""
    entries = [settings.get(name) for name in ("scheduler", "noise_scheduler")]
    given = next((entry for entry in entries if isinstance(entry, dict)), {})
    return DDIMScheduler(
        num_train_timesteps=given.get("num_train_timesteps", 1000),
        beta_start=given.get("beta_start", 0.0001),
        beta_end=given.get("beta_end", 0.02),
        beta_schedule="scaled_linear" if "scaled_linear" in given.get("schedule", "") else "linear",
        prediction_type=given.get("prediction_type", "epsilon"),
        clip_sample=False,
        timestep_spacing="linspace",
    )
