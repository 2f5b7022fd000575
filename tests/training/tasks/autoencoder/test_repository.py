"""The range of intensities of an autoencoder stays with it when a denoiser is trained on its latents."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_latent_diffusion import of_volumes
from helpers.small_volumes import SIZE, volume_rows

from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, build_autoencoder
from meddiffusers.training.tasks.autoencoder.repository import DEFAULT_RANGE, autoencoder_image_range
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, build_volume_pipeline


@pytest.fixture
def repository(tmp_path: Path) -> str:
    pipeline = of_volumes()
    pipeline.register_to_config(image_range={"0": 0.0, "1": 1.0})
    pipeline.save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_pipeline_records_the_range_and_an_autoencoder_alone_has_the_default(repository: str) -> None:
    assert autoencoder_image_range(repository, "vae") == (0, 1)
    assert autoencoder_image_range(f"{repository}/vae", None) == DEFAULT_RANGE


def test_a_denoiser_on_the_latents_keeps_the_range(repository: str) -> None:
    data = VolumeDataConfig(size=list(SIZE), covariates=["age"])
    network = {"block_out_channels": [8, 16], "attention_levels": [1], "attention_head_dim": 8, "norm_num_groups": 4}
    config = LatentDiffusionConfig(vae_name_or_path=repository, vae_subfolder="vae", **network)
    assert build_volume_pipeline(data, config, volume_rows(4)).image_range == (0, 1)


def test_training_refuses_to_go_on_in_another_range(repository: str) -> None:
    config = AutoencoderConfig(pretrained_model_name_or_path=repository, subfolder="vae")
    with pytest.raises(ValueError, match="takes intensities from 0 to 1; training continues only those from -1 to 1"):
        build_autoencoder(config, spatial_dims=3)
