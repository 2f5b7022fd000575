"""The autoencoder of volumes: which slices are compared by their looks, what training leaves, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.short_run import run
from helpers.small_volumes import SIZE, volume_rows

from meddiffusers import MonaiAutoencoderKL
from meddiffusers.datasets.rows import images_of
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.evaluation.generation.autoencoder import reconstruct
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.autoencoder.volumes import VolumeAutoencoderTask

SMALL: dict[str, Any] = {"block_out_channels": [8, 16], "latent_channels": 2, "norm_num_groups": 4}
DATA = VolumeDataConfig(size=list(SIZE), covariates=["age", "sex"])


def task_of(**config: Any) -> VolumeAutoencoderTask:
    splits = {"train": volume_rows(16), "test": volume_rows(4, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VolumeAutoencoderTask(DATA, AutoencoderConfig(**{**SMALL, "perceptual_weight": 0.0, **config}), splits)


def test_the_loss_is_its_terms() -> None:
    task = task_of(kl_weight=0.5)
    losses = task.loss(task.modules, task.collate([task.train_dataset[n] for n in range(4)]), BatchRandom(0))
    torch.testing.assert_close(losses["loss"], losses["error"] + 0.5 * losses["kl"])
    posterior = task.vae.encode(2 * torch.from_numpy(images_of(task.splits["train"].select(range(4)))) - 1).latent_dist
    expected = posterior.kl().mean() / np.prod(SIZE)
    assert losses["kl"].item() == pytest.approx(expected.item(), rel=0.1)  # some volumes are mirrored


def test_slices_of_all_planes_are_compared() -> None:
    task, (a, b) = task_of(), torch.rand(2, 3, 2, 8, 12, 9)
    pairs = task._perceptual_pairs(a, b, BatchRandom(0))
    for axis, (one, other) in zip((2, 3, 4), pairs, strict=True):
        sides = [side for place, side in enumerate(a.shape[2:], 2) if place != axis]
        assert one.shape == other.shape == (6, 1, *sides)
        for number in range(3):
            cuts = [a[number].select(axis - 1, index) for index in range(a.shape[axis])]
            chosen = [index for index, cut in enumerate(cuts) if torch.equal(cut, one[2 * number : 2 * number + 2, 0])]
            assert len(chosen) == 1
            assert torch.equal(b[number].select(axis - 1, chosen[0]), other[2 * number : 2 * number + 2, 0])


def test_volumes_are_mirrored_from_left_to_right() -> None:
    task, volumes = task_of(), torch.rand(32, 1, 4, 5, 6)
    turned = task._flip(volumes, BatchRandom(0))
    same = [torch.equal(one, other) for one, other in zip(turned, volumes, strict=True)]
    flipped = [torch.equal(one, other.flip(1)) for one, other in zip(turned, volumes, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True)) and 8 < sum(same) < 24


def test_a_frozen_encoder_keeps_its_latents(tmp_path: Path) -> None:
    first = task_of()
    first.save(first.build_pipeline(first.modules), tmp_path / "first")
    task = task_of(pretrained_model_name_or_path=str(tmp_path / "first"), freeze_encoder=True)
    result = run(task, tmp_path / "second", max_train_steps=3, train_batch_size=2)
    volumes = torch.from_numpy(images_of(task.splits["test"]))
    one, other = (vae.encode(volumes).latent_dist for vae in (first.vae, result.pipeline))
    assert torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)
    assert not torch.equal(first.vae.decode(one.mean).sample, result.pipeline.decode(one.mean).sample)


@pytest.mark.slow
def test_a_short_training_leaves_an_autoencoder_with_its_scale(tmp_path: Path) -> None:
    task = task_of(perceptual_weight=0.1, save_in_fp16=True)
    volumes = torch.from_numpy(images_of(task.splits["test"]))
    before = (reconstruct(task.vae, volumes) - volumes).abs().mean()
    run(task, tmp_path, max_train_steps=40)
    vae = MonaiAutoencoderKL.from_pretrained(tmp_path)
    after = (reconstruct(vae, volumes) - volumes).abs().mean()
    assert after < 0.5 * before
    latents = vae.encode(2 * torch.from_numpy(images_of(task.splits["train"])) - 1).latent_dist.mean
    assert vae.config["scaling_factor"] == pytest.approx(1 / latents.std().item(), rel=1e-3)
    assert task.evaluate(vae).figures
    again = AutoencoderConfig(pretrained_model_name_or_path=str(tmp_path))
    assert VolumeAutoencoderTask(DATA, again, task.splits)
    two = VolumeDataConfig(size=list(SIZE), covariates=["age", "sex"], modalities=["t1", "t2"])
    with pytest.raises(ValueError, match="is for 1 channels; expected 2"):
        VolumeAutoencoderTask(two, again, task.splits)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modalities": ["ct"]}, "phantoms have the modalities"),
        ({"covariates": ["height"]}, "and the covariates age, sex"),
        ({"size": [80, 96]}, "expected numbers of voxels along three axes"),
    ],
)
def test_data_that_there_is_not_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeDataConfig(**config)
