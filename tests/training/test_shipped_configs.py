"""Every configuration in training/configs is one that its script takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from meddiffusers import ConditionedUNet
from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.cardiac.consistency import ConsistencyConfig
from meddiffusers.training.tasks.image_diffusion.classifier import ClassifierConfig
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, network_settings
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig
from meddiffusers.training.tasks.text_to_mr.attribute_predictor import AttributePredictorConfig
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.prompt_encoder import PromptEncoderConfig

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))
KINDS: dict[str, tuple[Any, ...]] = {
    "anomaly_classifier": (LabelledDataConfig, ClassifierConfig),
    "ar_vae": (AttributeDataConfig, AttributeVAEConfig),
    "autoencoder": (CaptionedDataConfig, AutoencoderConfig),
    "image_diffusion": (LabelledDataConfig, ImageDiffusionConfig),
    "attribute_predictor": (CaptionedDataConfig, AttributePredictorConfig),
    "prompt_encoder": (CaptionedDataConfig, PromptEncoderConfig),
    "segmentation": (LabelledDataConfig, SegmentationModelConfig),
    "temporal_consistency": (ConsistencyConfig,),  # which trains nothing
    "text_to_mr": (CaptionedDataConfig, TextToMRConfig),
    "vae": (AttributeDataConfig, AttributeVAEConfig),
    "slice_diffusion": (LabelledDataConfig, LatentDiffusionConfig),
    "slice_autoencoder": (LabelledDataConfig, AutoencoderConfig),
    "volume_autoencoder": (VolumeDataConfig, AutoencoderConfig),
    "volume_diffusion": (VolumeDataConfig, LatentDiffusionConfig),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_script_takes_it(path: Path) -> None:
    kinds = next(kinds for name, kinds in KINDS.items() if f"{path.stem}_".startswith(f"{name}_"))
    training = () if kinds == (ConsistencyConfig,) else (TrainingConfig,)
    assert parse_config(*kinds, *training, argv=["--config", str(path)])


@pytest.mark.parametrize(
    ("name", "data", "dims", "millions"),
    [
        ("slice_diffusion_256", LabelledDataConfig, 2, 274),  # of LDM-256, Rombach et al. 2022, table 12
        ("volume_diffusion_paper", VolumeDataConfig, 3, 553),  # of Pinaya et al. 2022, as MONAI's bundle has it
    ],
)
def test_the_papers_denoisers_have_their_size(name: str, data: Any, dims: int, millions: int) -> None:
    path = CONFIGS[0].with_name(f"{name}.yaml")
    settings, config, _ = parse_config(data, LatentDiffusionConfig, TrainingConfig, argv=["--config", str(path)])
    with torch.device("meta"):
        unet = ConditionedUNet(
            spatial_dims=dims,
            latent_channels=3,
            sample_size=[64] * dims,
            covariates={covariate: [0, 1] for covariate in settings.covariates} if dims == 3 else None,
            network=network_settings(config),
        )
    assert round(unet.num_parameters() / 1e6) == millions
