"""Latent diffusion pipelines of slices and of volumes before training: new from settings, or from a repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

import datasets
import numpy as np
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from meddiffusers.data.phantoms.brain.phantom import FIELD_OF_VIEW
from meddiffusers.datasets.labelled_config import PHANTOM, LabelledDataConfig
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.conditioned_unet import ConditionedUNet
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.training.tasks.autoencoder.model import latent_factor
from meddiffusers.training.tasks.autoencoder.repository import autoencoder_image_range, load_autoencoder
from meddiffusers.training.tasks.image_diffusion.model import DISEASED, HEALTHY
from meddiffusers.training.tasks.unets import check_adapter_has_base, check_same_data
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class LatentDiffusionConfig:
    """Settings of the denoiser, its conditioning and its loss."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder of the model to start from.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    rank: int | None = setting(None, "Rank of a LoRA adapter; with it, only the adapter is trained.")
    lora_alpha: int | None = setting(None, "Alpha of the adapter, whose scale is alpha / rank; by default the rank.")

    vae_name_or_path: str | None = setting(None, "Repository or folder of the autoencoder.")
    vae_subfolder: str | None = setting(None, "Subfolder of the autoencoder in it, such as vae.")
    block_out_channels: list[int] = list_setting([64, 128, 192], "Number of channels of each level of the denoiser.")
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    attention_levels: list[int] = list_setting(
        [1, 2], "Levels with self-attention and cross-attention to the conditions, from 0."
    )
    attention_head_dim: int | None = setting(32, "Channels of an attention head; null for a single head.")
    resblock_updown: bool = setting(False, "Use residual blocks for down- and upsampling.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")

    num_fourier_features: int = setting(2, "Number of Fourier features of each covariate; volumes only.")
    conditioning: Literal["mask", "label", "none"] = setting(
        "mask",
        "Condition of slices: label map, label (healthy or diseased) or none. Volumes have covariates.",
    )
    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow"] = setting(
        "v_prediction", "What the network predicts: noise, latents, velocity, or noise minus latents (flow matching)."
    )
    snr_gamma: float | None = setting(None, "γ of the min-SNR weights; by default the loss is not weighted.")
    condition_dropout: float = setting(0.1, "Fraction of the conditions that is dropped, for classifier-free guidance.")
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.prediction_type == "flow" and self.snr_gamma is not None:
            raise ValueError(
                f"snr_gamma={self.snr_gamma} with prediction_type=flow, which is not weighted. Leave it out."
            )
        check_adapter_has_base(self.rank, self.pretrained_model_name_or_path)


_COUNT = Range(1)
_RANGES = {
    "rank": _COUNT,
    "lora_alpha": _COUNT,
    "layers_per_block": _COUNT,
    "attention_head_dim": _COUNT,
    "norm_num_groups": _COUNT,
    "num_fourier_features": Range(0),
    "snr_gamma": Range(0, open_low=True),
    "condition_dropout": Range(0, 1),
}


def build_volume_pipeline(
    data: VolumeDataConfig, config: LatentDiffusionConfig, train: datasets.Dataset
) -> LatentDiffusionPipeline:
    """The pipeline of volumes before training.

    Args:
        data: Settings of the volumes.
        config: Settings of the denoiser.
        train: Training rows, which give the ranges of the covariates.

    Raises:
        ValueError: There is no autoencoder; the repository holds another kind of pipeline, or one for other volumes.
    """
    if config.pretrained_model_name_or_path:
        pipeline = _load_pipeline(config)
        size = [pipeline.vae_scale_factor * side for side in pipeline.unet.config["sample_size"]]
        covariates = list(pipeline.unet.covariates)
        _check(pipeline, config, {"size": size, "covariates": covariates}, data)
        return pipeline
    vae = load_autoencoder(_vae_name(config), config.vae_subfolder, spatial_dims=3).eval()
    image_range = autoencoder_image_range(_vae_name(config), config.vae_subfolder)
    unet = ConditionedUNet(
        spatial_dims=3,
        latent_channels=vae.config["latent_channels"],
        sample_size=[side // latent_factor(vae) for side in data.size],
        covariates=covariate_ranges(train, data.covariates) or None,
        num_fourier_features=config.num_fourier_features,
        network=network_settings(config),
    )
    return LatentDiffusionPipeline(vae, unet, _scheduler(config), tuple(data.modalities), data.spacing, image_range)


def build_slice_pipeline(data: LabelledDataConfig, config: LatentDiffusionConfig) -> LatentDiffusionPipeline:
    """The pipeline of slices before training, conditioned on label maps, on labels or on nothing.

    Raises:
        ValueError: There is no autoencoder; the repository holds another kind of pipeline, or one for other images.
    """
    labels = {str(label): name for label, name in enumerate(data.classes, 1)}
    if config.pretrained_model_name_or_path:
        pipeline = _load_pipeline(config)
        size = pipeline.vae_scale_factor * pipeline.unet.config["sample_size"][0]
        theirs = {"resolution": size}
        if pipeline.unet.mask_labels:
            theirs["classes"] = list(pipeline.unet.mask_labels.values())
        _check(pipeline, config, theirs, data)
        return pipeline
    vae = load_autoencoder(_vae_name(config), config.vae_subfolder, spatial_dims=2).eval()
    image_range = autoencoder_image_range(_vae_name(config), config.vae_subfolder)
    factor = latent_factor(vae)
    unet = ConditionedUNet(
        spatial_dims=2,
        latent_channels=vae.config["latent_channels"],
        sample_size=[data.resolution // factor] * 2,
        id2label={0: HEALTHY, 1: DISEASED} if config.conditioning == "label" else None,
        mask_labels=labels if config.conditioning == "mask" else None,
        mask_downsample=factor,
        mask_space_to_depth=True,
        network=network_settings(config),
    )
    spacing = data.spacing or (FIELD_OF_VIEW / data.resolution if data.dataset_name == PHANTOM else None)
    return LatentDiffusionPipeline(vae, unet, _scheduler(config), tuple(data.modalities), spacing, image_range)


def covariate_ranges(rows: datasets.Dataset, names: Sequence[str]) -> dict[str, list[Any]]:
    """The range of each covariate: of numbers the rounded minimum and maximum, of words all values, sorted.

    Raises:
        ValueError: A covariate is missing in all rows, or the same in all.
    """
    ranges: dict[str, list[Any]] = {}
    for name in names:
        known = [value for value in rows[name] if value is not None and value == value]  # NaN differs from itself
        if not known:
            raise ValueError(f"The covariate {name} is missing in all training volumes. Leave it out.")
        if isinstance(known[0], str):
            ranges[name] = sorted(set(known))
        else:
            ranges[name] = [float(floor(np.min(known))), float(ceil(np.max(known)))]
        if len(set(ranges[name])) < 2:
            raise ValueError(
                f"The covariate {name} is {known[0]!r} in all volumes; expected one that varies. Leave it out."
            )
    return ranges


def _scheduler(config: LatentDiffusionConfig) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    if config.prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler()
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.0015,  # as Pinaya et al. 2022
        beta_end=0.0205,
        clip_sample=False,
        prediction_type=config.prediction_type,
        timestep_spacing="trailing",
    )


def network_settings(config: LatentDiffusionConfig) -> dict[str, Any]:
    """Settings of MONAI's diffusion U-Net."""
    has_attention = [level in config.attention_levels for level in range(len(config.block_out_channels))]
    return {
        "channels": config.block_out_channels,
        "num_res_blocks": config.layers_per_block,
        "attention_levels": has_attention,
        "num_head_channels": [
            (config.attention_head_dim or channels) if attention else 0
            for attention, channels in zip(has_attention, config.block_out_channels, strict=True)
        ],
        "resblock_updown": config.resblock_updown,
        "norm_num_groups": config.norm_num_groups,
        "include_fc": True,
        "use_flash_attention": True,
    }


def _vae_name(config: LatentDiffusionConfig) -> str:
    if not config.vae_name_or_path:
        raise ValueError(
            "vae_name_or_path is not set; a new model needs an autoencoder. Train it with "
            "training/train_volume_autoencoder.py or train_slice_autoencoder.py, or name a repository that holds one."
        )
    return config.vae_name_or_path


def _load_pipeline(config: LatentDiffusionConfig) -> LatentDiffusionPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, LatentDiffusionPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected a LatentDiffusionPipeline.")
    return pipeline


def _check(pipeline: LatentDiffusionPipeline, config: LatentDiffusionConfig, theirs: dict[str, Any], data: Any) -> None:
    """Raise ValueError where the repository was trained for other data than the configured ones."""
    shared = {"modalities": list(pipeline.modalities), "spacing": pipeline.config["spacing"]}
    given = shared if data.spacing is not None else {"modalities": shared["modalities"]}
    check_same_data(config.pretrained_model_name_or_path or "", {**given, **theirs}, data)
