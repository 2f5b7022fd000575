"""The image diffusion pipeline before training: new from settings, or from a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DModel

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.patch_unet import PatchUNet2DModel
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.training.tasks.unets import (
    UNET_RANGES,
    UNetConfig,
    build_noise_scheduler,
    check_adapter_has_base,
    check_same_data,
)
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

HEALTHY, DISEASED = "healthy", "diseased"  # labels of images without and with foreground


@dataclass
class ImageDiffusionConfig(UNetConfig):
    """Settings of the network and of the loss."""

    prediction_type: Literal["epsilon", "sample", "v_prediction"] = setting(
        "epsilon", "What the network predicts: the noise, the image or the velocity."
    )
    variance_type: Literal["fixed_small", "learned_range"] = setting(
        "fixed_small", "Variance of the reverse process: fixed, or learnt by the network."
    )
    snr_gamma: float | None = setting(None, "γ of the min-SNR weights; by default the loss is not weighted.")
    label_dropout: float | None = setting(
        None,
        "Condition the network on the labels healthy and diseased, with this fraction of them dropped for "
        "classifier-free guidance; by default the network is unconditional.",
    )
    importance_share: float = setting(0.0, "Fraction of the images that get a time within importance_range.")
    importance_range: list[float] = list_setting(
        [0.12, 0.42], "Two times, as fractions of the noise schedule, between which more images are noised."
    )
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")
    modality_dropout: float = setting(0.0, "Fraction of the images from which random modalities are dropped.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        times = self.importance_range
        if len(times) != 2 or not 0 <= times[0] < times[1] <= 1:
            raise ValueError(f"importance_range is {times}; expected two increasing numbers from 0 to 1.")


_RANGES = UNET_RANGES | {
    "snr_gamma": Range(0, open_low=True),
    "label_dropout": Range(0, 1),
    "importance_share": Range(0, 1),
    "modality_dropout": Range(0, 1),
}


def build_image_pipeline(data: LabelledDataConfig, config: ImageDiffusionConfig) -> ImageDiffusionPipeline:
    """The pipeline before training, with a new network or that of a repository.

    Raises:
        ValueError: The repository holds another kind of pipeline, or one for other modalities or pixels than the data;
            an adapter without a repository.
    """
    if config.pretrained_model_name_or_path:
        return _from_repository(data, config)
    check_adapter_has_base(config.rank, config.pretrained_model_name_or_path)
    channels = len(data.modalities)
    unet = PatchUNet2DModel(
        in_channels=channels,
        out_channels=2 * channels if config.variance_type == "learned_range" else None,
        patch_size=config.patch_size,
        sample_size=data.resolution,
        id2label=None if config.label_dropout is None else {0: HEALTHY, 1: DISEASED},
        network=config.network_settings(config.block_out_channels, config.attention_levels),
    )
    scheduler = build_noise_scheduler(config.prediction_type, config.variance_type)
    return ImageDiffusionPipeline(unet, scheduler, modalities=data.modalities, spacing=data.spacing)


def _from_repository(data: LabelledDataConfig, config: ImageDiffusionConfig) -> ImageDiffusionPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, ImageDiffusionPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected an ImageDiffusionPipeline.")
    if isinstance(pipeline.unet, UNet2DModel):
        pipeline = ImageDiffusionPipeline.from_pipe(pipeline, unet=PatchUNet2DModel.from_unet(pipeline.unet))
    check_same_data(name, {"modalities": list(pipeline.modalities), "spacing": pipeline.config["spacing"]}, data)
    return pipeline
