"""Convert latent diffusion models of MONAI's model zoo to a `LatentDiffusionPipeline`: brain volumes, BraTS, slices.

A bundle is a folder with `configs/*.json`, which describe the networks, and `models/*.pt`. No code of it is run: only
plain values of the configuration, references `@name` to them, and tensors are read.
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

OLD_SETTINGS = {"num_channels": "channels"}  # names in GenerativeModels
IGNORED = ("_target_", "use_checkpointing", "use_checkpoint")
CONFIGS = ("inference.json", "train_diffusion.json", "train_autoencoder.json")


def convert_bundle(
    folder: str | Path,
    *,
    scaling_factor: float | None = None,
    covariates: Mapping[str, Sequence[Any]] | None = None,
    modalities: Sequence[str] | None = None,
    spacing: float | None = None,
) -> LatentDiffusionPipeline:
    """Convert a bundle to a pipeline in float32 and in evaluation mode.

    Args:
        folder: Folder of the bundle.
        scaling_factor: Factor of the latents in training. Bundles seldom state it; 1 if none was used.
        covariates: Names and ranges of the covariates in the order of the network's additional channels; by default
            `covariate_0`, … from 0 to 1.
        modalities: Names of the image channels in their order; by default `channel 0`, ….
        spacing: Edge length of a pixel or voxel in mm; None if unknown.

    Raises:
        ValueError: The configurations do not describe both networks, contradict the weights or lack the scaling factor,
            or the number of covariates or modalities differs from that of the channels.
        UnreadableError: Weights or configurations are missing or damaged.

    Example:
        >>> pipe = convert_bundle("brain_image_synthesis", scaling_factor=1.0, modalities=["t1"], spacing=1.0)
        >>> pipe.save_pretrained("brain-ldm")
    """
    folder = Path(folder)
    settings = _settings(folder / "configs")
    described = {name: _description(settings, name) for name in ("AutoencoderKL", "DiffusionModelUNet")}
    factor = scaling_factor if scaling_factor is not None else settings.get("scale_factor")
    if not isinstance(factor, int | float):
        raise ValueError(
            f"{folder.name} does not state the factor of the latents (scale_factor is {factor!r}). Give "
            "--scaling-factor: one over the latents' standard deviation on training data, or 1 if none was used."
        )
    files = _files(folder / "models")
    vae = autoencoder_of(load_checkpoint(files["autoencoder"]), described["AutoencoderKL"], float(factor))
    size = [int(side) for side in _resolved(settings, settings.get("latent_shape", ()))][-vae.config["spatial_dims"] :]
    unet = unet_of(load_checkpoint(files["diffusion"]), described["DiffusionModelUNet"], size, covariates)
    scheduler = _scheduler(settings)
    names = None if modalities is None else list(modalities)
    return LatentDiffusionPipeline(vae, unet, scheduler, names, spacing, image_range=(0.0, 1.0))


def autoencoder_of(weights: Mapping[str, Tensor], described: Mapping[str, Any], factor: float) -> MonaiAutoencoderKL:
    """Build the autoencoder from weights under old or new names.

    Args:
        weights: Weights by name.
        described: Arguments of MONAI's `AutoencoderKL`, without `include_fc`.
        factor: `scaling_factor` of the latents.
    """
    vae = MonaiAutoencoderKL(**{**described, "include_fc": includes_fc(weights)}, scaling_factor=factor)
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
    """Return the entries of all configurations; those of the first of `CONFIGS` take precedence."""
    settings: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).is_file():
            settings = {**json.loads((folder / name).read_text(encoding="utf-8")), **settings}
    if not settings:
        raise ValueError(f"{folder} holds none of {', '.join(CONFIGS)}; expected the folder of a bundle.")
    return settings


def _description(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the arguments of the network of this class."""
    for entry in settings.values():
        if isinstance(entry, dict) and str(entry.get("_target_", "")).rpartition(".")[2] == name:
            given = {str(OLD_SETTINGS.get(key, key)): _resolved(settings, value) for key, value in entry.items()}
            return {key: value for key, value in given.items() if key not in (*IGNORED, "include_fc")}
    raise ValueError(f"The configurations describe no {name}; expected those of a latent diffusion model.")


def _resolved(settings: Mapping[str, Any], value: Any) -> Any:
    """Return a value, or the value that a reference `@name` points to."""
    if isinstance(value, list | tuple):
        return [_resolved(settings, each) for each in value]
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in settings:
            raise ValueError(f"The configurations refer to {value}, which they do not define. Add it to one of them.")
        return _resolved(settings, settings[value[1:]])
    return value


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


def _scheduler(settings: Mapping[str, Any]) -> DDIMScheduler:
    """Build a scheduler with the noise schedule of the bundle and the timesteps of MONAI's DDIM."""
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
