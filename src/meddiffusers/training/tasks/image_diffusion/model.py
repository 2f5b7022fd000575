"""The network of an unconditional diffusion model: from settings, a repository, or with an adapter to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DModel

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.patch_unet import PatchUNet2DModel
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.training.tasks.unets import UNET_RANGES, UNetConfig, check_same, noise_scheduler
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

HEALTHY, DISEASED = "healthy", "diseased"  # labels of images without and with any foreground


@dataclass
class DenoisingModelConfig(UNetConfig):
    """Which network, and how it learns."""

    prediction_type: Literal["epsilon", "sample", "v_prediction"] = setting("epsilon", "What the network predicts.")
    variance_type: Literal["fixed_small", "learned_range"] = setting("fixed_small", "learned_range: train it too.")
    snr_gamma: float | None = setting(None, "γ of min-SNR weights; unweighted if not given.")
    label_dropout: float | None = setting(
        None, "Tell the network which images are healthy, but for this part of them; it is never told if not given."
    )
    focus_share: float = setting(0.0, "Part of the images that are noised to a time within focus_times.")
    focus_times: list[float] = list_setting([0.12, 0.42], "Parts of the way to pure noise, the first the smaller.")
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")
    modality_dropout: float = setting(0.0, "Part of the images that a random number of modalities is left out of.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if len(self.focus_times) != 2 or not 0 <= self.focus_times[0] < self.focus_times[1] <= 1:
            raise ValueError(f"focus_times is {self.focus_times}; expected two numbers that rise, within 0 and 1.")


_RANGES = UNET_RANGES | {
    "snr_gamma": Range(0, open_low=True),
    "label_dropout": Range(0, 1),
    "focus_share": Range(0, 1),
    "modality_dropout": Range(0, 1),
}


def first_pipeline(data: LabelledDataConfig, config: DenoisingModelConfig) -> ImageDiffusionPipeline:
    """The pipeline before training, its network new or of a repository.

    Raises:
        ValueError: a repository of another kind, or with other modalities or pixels than the data; an adapter without a
            repository.
    """
    if config.pretrained_model_name_or_path:
        return _repository(data, config)
    config.check_start()
    channels = len(data.modalities)
    unet = PatchUNet2DModel(
        in_channels=channels,
        out_channels=2 * channels if config.variance_type == "learned_range" else None,
        patch_size=config.patch_size,
        sample_size=data.resolution,
        id2label=None if config.label_dropout is None else {0: HEALTHY, 1: DISEASED},
        network=config.settings(config.block_out_channels, config.attention_levels),
    )
    scheduler = noise_scheduler(config.prediction_type, config.variance_type)
    return ImageDiffusionPipeline(unet, scheduler, modalities=data.modalities, spacing=data.spacing)


def _repository(data: LabelledDataConfig, config: DenoisingModelConfig) -> ImageDiffusionPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, ImageDiffusionPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected an ImageDiffusionPipeline.")
    if isinstance(pipeline.unet, UNet2DModel):
        pipeline = ImageDiffusionPipeline.from_pipe(pipeline, unet=PatchUNet2DModel.from_unet(pipeline.unet))
    check_same(name, {"modalities": list(pipeline.modalities), "spacing": pipeline.config["spacing"]}, data)
    return pipeline
