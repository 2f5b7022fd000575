"""The network of a segmentation task: from settings, from a repository, or with an adapter to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DModel

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.segmentation_unet import SegmentationUNet
from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.pipelines.meddiffusers_segmentation_maps_v1 import TTA_VIEWS
from meddiffusers.training.tasks.unets import UNET_RANGES, UNetConfig, check_same, noise_scheduler
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class SegmentationModelConfig(UNetConfig):
    """Which network, and how it learns."""

    image_block_out_channels: list[int] = list_setting([], "Channels of the image encoder's levels; none without.")
    feature_channels: int = setting(32, "Channels of what the image encoder makes of an image.")

    prediction_type: Literal["sample", "epsilon", "v_prediction"] = setting("sample", "What the network predicts.")
    variance_type: Literal["fixed_small", "learned_range"] = setting("fixed_small", "learned_range: train it too.")
    mask_range: list[float] = list_setting([-1.0, 1.0], "What 0 and 1 of a mask are to the network.")
    snr_gamma: float | None = setting(None, "γ of min-SNR weights; unweighted if not given.")
    dice_weight: float = setting(0.05, "Weight of Dice beside the cross-entropy, where there is an image encoder.")
    noise_draws: float = setting(
        1, "Noisy masks for each image of a batch, a whole number; with an image encoder also a part of 1."
    )
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")
    modality_dropout: float = setting(0.0, "Part of the images that a random number of modalities is left out of.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.noise_draws % 1 and self.noise_draws > 1:
            raise ValueError(f"noise_draws={self.noise_draws}; expected a whole number, or a part of 1.")
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
    "noise_draws": Range(0, open_low=True),
    "modality_dropout": Range(0, 1),
}


def first_pipeline(data: LabelledDataConfig, config: SegmentationModelConfig) -> ConditionalSegmentationPipeline:
    """The pipeline before training, its network new or of a repository.

    Raises:
        ValueError: a repository of another kind, or with other modalities, labels or pixels than the data; an adapter
            without a repository.
    """
    if config.pretrained_model_name_or_path:
        return _repository(data, config)
    config.check_start()
    id2label = dict(enumerate(["background", *data.classes]))
    channels = 1 if len(id2label) == 2 else len(id2label)
    unet = SegmentationUNet(
        image_channels=len(data.modalities),
        mask_channels=channels,
        out_channels=2 * channels if config.variance_type == "learned_range" else None,
        patch_size=config.patch_size,
        sample_size=data.resolution,
        denoiser_config=config.settings(config.block_out_channels, config.attention_levels),
        image_encoder_config=config.settings(config.image_block_out_channels, [])
        if config.image_block_out_channels
        else None,
        feature_channels=config.feature_channels,
    )
    return ConditionalSegmentationPipeline(
        unet=unet,
        scheduler=noise_scheduler(config.prediction_type, config.variance_type),
        modalities=data.modalities,
        id2label=id2label,
        spacing=data.spacing,
        mask_range=config.mask_range,
        num_tta_views=len(TTA_VIEWS) if config.image_block_out_channels else 1,  # as training mirrors and moves the images
    )


def _repository(data: LabelledDataConfig, config: SegmentationModelConfig) -> ConditionalSegmentationPipeline:
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
    check_same(name, theirs, data)
    return pipeline
