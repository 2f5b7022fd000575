"""The parts of a latent diffusion model before training: from settings, or of a repository to go on with."""

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
from meddiffusers.training.tasks.autoencoder.model import latent_factor, load_autoencoder
from meddiffusers.training.tasks.image_diffusion.model import DISEASED, HEALTHY
from meddiffusers.training.tasks.unets import check_same
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class LatentDiffusionConfig:
    """Which parts, and how the denoiser learns."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder to go on with.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    rank: int | None = setting(None, "Train a LoRA adapter of this rank, and nothing else.")
    lora_alpha: int | None = setting(None, "Scale of the adapter, over its rank; the rank itself if not given.")

    vae_name_or_path: str | None = setting(None, "Folder or repository of the autoencoder.")
    vae_subfolder: str | None = setting(None, "Where in it the autoencoder is, such as vae.")
    block_out_channels: list[int] = list_setting([64, 128, 192], "Channels of the denoiser's levels.")
    layers_per_block: int = setting(1, "Residual blocks of a level.")
    attention_levels: list[int] = list_setting([1, 2], "Levels that attend, to themselves and to what they are told.")
    attention_head_dim: int | None = setting(32, "Channels of an attention head; none: one head has all.")
    resblock_updown: bool = setting(False, "Whether residual blocks change the size between levels.")
    norm_num_groups: int = setting(16, "Groups of the normalisation.")

    num_fourier_features: int = setting(2, "Of volumes: waves of each covariate that the denoiser is told beside it.")
    conditioning: Literal["mask", "label", "none"] = setting(
        "mask", "Of slices: told label maps, whether there is any foreground, or nothing. Volumes have covariates."
    )
    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow"] = setting(
        "v_prediction", "What the network predicts; flow: flow matching (Lipman et al. 2023), noise minus latents."
    )
    snr_gamma: float | None = setting(None, "γ of min-SNR weights; unweighted if not given.")
    condition_dropout: float = setting(0.1, "Part of what the network is told that is left out.")
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.prediction_type == "flow" and self.snr_gamma is not None:
            raise ValueError(
                f"snr_gamma={self.snr_gamma} with prediction_type=flow, which is not weighted. Leave it out."
            )
        if self.rank and not self.pretrained_model_name_or_path:
            raise ValueError(
                f"rank={self.rank} but pretrained_model_name_or_path is not set; an adapter changes weights that there "
                "are: give --pretrained_model_name_or_path REPOSITORY."
            )


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


def of_volumes(
    data: VolumeDataConfig, config: LatentDiffusionConfig, train: datasets.Dataset
) -> LatentDiffusionPipeline:
    """The pipeline of volumes before training; the ranges of its covariates are those of the training rows.

    Raises:
        ValueError: no autoencoder to begin with; a repository of another kind, or for other volumes.
    """
    if config.pretrained_model_name_or_path:
        pipeline = _repository(config)
        size = [pipeline.vae_scale_factor * side for side in pipeline.unet.config["sample_size"]]
        covariates = list(pipeline.unet.covariates)
        _check(pipeline, config, {"size": size, "covariates": covariates}, data)
        return pipeline
    vae = load_autoencoder(_vae_name(config), config.vae_subfolder, dims=3).eval()
    unet = ConditionedUNet(
        spatial_dims=3,
        latent_channels=vae.config["latent_channels"],
        sample_size=[side // latent_factor(vae) for side in data.size],
        covariates=covariate_ranges(train, data.covariates) or None,
        num_fourier_features=config.num_fourier_features,
        network=network_settings(config),
    )
    return LatentDiffusionPipeline(vae, unet, _scheduler(config), tuple(data.modalities), data.spacing)


def of_slices(data: LabelledDataConfig, config: LatentDiffusionConfig) -> LatentDiffusionPipeline:
    """The pipeline of slices that are told label maps, labels or nothing, before training.

    Raises:
        ValueError: no autoencoder to begin with; a repository of another kind, or for other images.
    """
    labels = {str(number): name for number, name in enumerate(data.classes, 1)}
    if config.pretrained_model_name_or_path:
        pipeline = _repository(config)
        size = pipeline.vae_scale_factor * pipeline.unet.config["sample_size"][0]
        theirs = {"resolution": size}
        if pipeline.unet.mask_labels:
            theirs["classes"] = list(pipeline.unet.mask_labels.values())
        _check(pipeline, config, theirs, data)
        return pipeline
    vae = load_autoencoder(_vae_name(config), config.vae_subfolder, dims=2).eval()
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
    return LatentDiffusionPipeline(vae, unet, _scheduler(config), tuple(data.modalities), spacing)


def covariate_ranges(rows: datasets.Dataset, names: Sequence[str]) -> dict[str, list[Any]]:
    """Of numbers the whole ones about the least and the greatest, of words all that occur, in order.

    Raises:
        ValueError: a covariate of which nothing is known, or but one number.
    """
    ranges: dict[str, list[Any]] = {}
    for name in names:
        known = [value for value in rows[name] if value is not None and value == value]  # which NaN is not
        if not known:
            raise ValueError(f"The covariate {name} is not known of any training volume. Leave it out.")
        if isinstance(known[0], str):
            ranges[name] = sorted(set(known))
        else:
            ranges[name] = [float(floor(np.min(known))), float(ceil(np.max(known)))]
        if len(set(ranges[name])) < 2:
            raise ValueError(
                f"The covariate {name} is {known[0]!r} throughout; expected one that varies. Leave it out."
            )
    return ranges


def _scheduler(config: LatentDiffusionConfig) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    if config.prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler()
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.0015,  # of Pinaya et al. 2022
        beta_end=0.0205,
        clip_sample=False,
        prediction_type=config.prediction_type,
        timestep_spacing="trailing",
    )


def network_settings(config: LatentDiffusionConfig) -> dict[str, Any]:
    """Settings of MONAI's U-Net."""
    attends = [level in config.attention_levels for level in range(len(config.block_out_channels))]
    return {
        "channels": config.block_out_channels,
        "num_res_blocks": config.layers_per_block,
        "attention_levels": attends,
        "num_head_channels": [
            (config.attention_head_dim or channels) if attending else 0
            for attending, channels in zip(attends, config.block_out_channels, strict=True)
        ],
        "resblock_updown": config.resblock_updown,
        "norm_num_groups": config.norm_num_groups,
        "include_fc": True,
        "use_flash_attention": True,
    }


def _vae_name(config: LatentDiffusionConfig) -> str:
    if not config.vae_name_or_path:
        raise ValueError(
            "vae_name_or_path is not set; a new model needs an autoencoder. Train it by "
            "training/train_volume_autoencoder.py or train_slice_autoencoder.py, or name a repository that holds one."
        )
    return config.vae_name_or_path


def _repository(config: LatentDiffusionConfig) -> LatentDiffusionPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, LatentDiffusionPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected a LatentDiffusionPipeline.")
    return pipeline


def _check(pipeline: LatentDiffusionPipeline, config: LatentDiffusionConfig, theirs: dict[str, Any], data: Any) -> None:
    """ValueError where a repository was made for other data than those that are configured."""
    shared = {"modalities": list(pipeline.modalities), "spacing": pipeline.config["spacing"]}
    given = shared if data.spacing is not None else {"modalities": shared["modalities"]}
    check_same(config.pretrained_model_name_or_path or "", {**given, **theirs}, data)
