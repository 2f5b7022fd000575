"""The segmentation pipeline before training: new from settings, or from a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DModel

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.segmentation_unet import SegmentationUNet
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.pipelines.meddiffusers_segmentation_maps_v1 import TTA_VIEWS
from meddiffusers.training.tasks.unets import (
    UNET_RANGES,
    UNetConfig,
    build_noise_scheduler,
    check_adapter_has_base,
    check_same_data,
)
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class SegmentationModelConfig(UNetConfig):
    """Settings of the network and of the loss."""

    image_block_out_channels: list[int] = list_setting(
        [], "Number of channels of each level of the image encoder; by default there is no image encoder."
    )
    feature_channels: int = setting(32, "Number of output channels of the image encoder.")

    prediction_type: Literal["sample", "epsilon", "v_prediction"] = setting(
        "sample", "What the network predicts: the mask, the noise or the velocity."
    )
    variance_type: Literal["fixed_small", "learned_range"] = setting(
        "fixed_small", "Variance of the reverse process: fixed, or learnt by the network."
    )
    mask_range: list[float] = list_setting([-1.0, 1.0], "Values that 0 and 1 of a mask are scaled to.")
    snr_gamma: float | None = setting(None, "γ of the min-SNR weights; by default the loss is not weighted.")
    dice_weight: float = setting(0.05, "Weight of the Dice loss beside the cross-entropy, with an image encoder.")
    noise_samples: float = setting(
        1,
        "Number of noisy masks for each image of a batch; with an image encoder, a number below 1 is the fraction of "
        "the images that get a noisy mask.",
    )
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")
    modality_dropout: float = setting(0.0, "Fraction of the images from which random modalities are dropped.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.noise_samples % 1 and self.noise_samples > 1:
            raise ValueError(f"noise_samples={self.noise_samples}; expected a whole number, or a fraction below 1.")
        plain = (self.prediction_type, self.variance_type, self.mask_range, self.snr_gamma)
        if self.image_block_out_channels and plain != ("sample", "fixed_small", [-1.0, 1.0], None):
            raise ValueError(
                f"prediction_type={plain[0]}, variance_type={plain[1]}, mask_range={plain[2]} and snr_gamma={plain[3]} "
                "with an image encoder, whose denoiser predicts labels; expected sample, fixed_small, [-1, 1] and "
                "none. Leave them, or image_block_out_channels, out."
            )


_RANGES = UNET_RANGES | {
    "feature_channels": Range(1),
    "snr_gamma": Range(0, open_low=True),
    "dice_weight": Range(0),
    "noise_samples": Range(0, open_low=True),
    "modality_dropout": Range(0, 1),
}


def build_segmentation_pipeline(
    data: LabelledDataConfig, config: SegmentationModelConfig
) -> ConditionalSegmentationPipeline:
    """The pipeline before training, with a new network or that of a repository.

    Raises:
        ValueError: The repository holds another kind of pipeline, or one for other modalities, labels or pixels than
            the data; an adapter without a repository.
    """
    if config.pretrained_model_name_or_path:
        return _from_repository(data, config)
    check_adapter_has_base(config.rank, config.pretrained_model_name_or_path)
    id2label = dict(enumerate(["background", *data.classes]))
    channels = 1 if len(id2label) == 2 else len(id2label)
    encoder_channels = config.image_block_out_channels
    image_encoder = config.network_settings(encoder_channels, []) if encoder_channels else None
    unet = SegmentationUNet(
        image_channels=len(data.modalities),
        mask_channels=channels,
        out_channels=2 * channels if config.variance_type == "learned_range" else None,
        patch_size=config.patch_size,
        sample_size=data.resolution,
        denoiser_config=config.network_settings(config.block_out_channels, config.attention_levels),
        image_encoder_config=image_encoder,
        feature_channels=config.feature_channels,
    )
    return ConditionalSegmentationPipeline(
        unet=unet,
        scheduler=build_noise_scheduler(config.prediction_type, config.variance_type),
        modalities=data.modalities,
        id2label=id2label,
        spacing=data.spacing,
        mask_range=config.mask_range,
        num_tta_views=len(TTA_VIEWS) if encoder_channels else 1,  # whose images training flips and shifts
    )


def _from_repository(data: LabelledDataConfig, config: SegmentationModelConfig) -> ConditionalSegmentationPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, ConditionalSegmentationPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected a ConditionalSegmentationPipeline.")
    if isinstance(pipeline.unet, UNet2DModel):
        pipeline = ConditionalSegmentationPipeline.from_pipe(
            pipeline, unet=SegmentationUNet.from_unet(pipeline.unet, pipeline.mask_channels)
        )
    theirs = {
        "modalities": list(pipeline.modalities),
        "classes": list(pipeline.id2label.values())[1:],
        "spacing": pipeline.config["spacing"],
    }
    check_same_data(name, theirs, data)
    return pipeline
