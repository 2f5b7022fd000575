"""Latent diffusion of slices: conditions, training, and the autoencoder of several modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from helpers.short_run import run
from helpers.small_latent_diffusion import of_images

from meddiffusers import LatentDiffusionPipeline, MonaiAutoencoderKL
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.generation.autoencoder import reconstruct
from meddiffusers.evaluation.generation.run import first_rater_masks, generate_slices
from meddiffusers.hub.load import load
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.autoencoder.repository import load_autoencoder
from meddiffusers.training.tasks.autoencoder.slices import SliceAutoencoderTask
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.latent_diffusion.slices import SliceDiffusionTask

DATA = LabelledDataConfig(resolution=16, modalities=["t1", "flair"], classes=["core", "rim"], spacing=2.0)
SMALL: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "attention_levels": [1],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


def squares(count: int, seed: int = 0) -> datasets.Dataset:
    """Two modalities with a square somewhere, whose left half is the core; two raters, of whom one is wider."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        top, left = rng.integers(2, 8, 2)
        masks = np.zeros((2, 16, 16), np.uint8)
        masks[:, top : top + 6, left : left + 3], masks[:, top : top + 6, left + 3 : left + 6] = 1, 2
        masks[1, top - 1, left : left + 6] = 2
        image = 0.3 + 0.5 * np.stack([masks[0] == 1, masks[0] == 2])
        rows.append(
            {
                "image": np.rint(INTENSITY_SCALE * image).astype(np.int16),
                "masks": masks,
                "subject": f"{seed}-{index}",
            }
        )
    return datasets.Dataset.from_list(rows, features=datasets.Features(row_features(2, 2, (16, 16))))


@pytest.fixture
def vae(tmp_path: Path) -> str:
    of_images().vae.save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


def task_of(vae: str | None, **config: Any) -> SliceDiffusionTask:
    splits = {"train": squares(24), "test": squares(6, seed=1)}
    start = {} if vae is None else {"vae_name_or_path": vae, **SMALL}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SliceDiffusionTask(DATA, LatentDiffusionConfig(**{**start, **config}), splits)


def test_mirrored_latents_come_with_mirrored_masks_of_any_rater(vae: str) -> None:
    task = task_of(vae)
    masks = np.asarray(task.splits["train"].with_format("numpy")[5]["masks"])
    seen = set()
    for seed in range(40):
        np.random.seed(seed)
        item = task.train_dataset[5]
        for view, turned in enumerate((masks, masks[:, :, ::-1])):
            if np.array_equal(item["moments"].numpy(), task.train_dataset.moments[5, view].astype(np.float32)):
                rater = next(r for r in range(2) if np.array_equal(item["masks"].numpy(), turned[r]))
                seen.add((view, rater))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_masks_are_left_out_whole(vae: str) -> None:
    task = task_of(vae, condition_dropout=0.25)
    masks = torch.randint(0, 3, (2000, 4, 4))
    conditions = task.conditions({"masks": masks}, BatchRandom(0))["masks"]
    dropped = (conditions == -1).flatten(1).all(dim=1)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(conditions[~dropped], masks[~dropped])


def test_labels_say_whether_there_is_foreground(vae: str) -> None:
    task = task_of(vae, conditioning="label", condition_dropout=0.25)
    assert task.pipeline.unet.id2label == {0: "healthy", 1: "diseased"} and not task.pipeline.unet.mask_labels
    masks = torch.zeros(2000, 4, 4, dtype=torch.long)
    masks[::2, 1, 2] = 2
    conditions = task.conditions({"masks": masks}, BatchRandom(0))["class_labels"]
    assert (conditions == 2).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert set(conditions[::2].tolist()) == {1, 2} and set(conditions[1::2].tolist()) == {0, 2}
    some = first_rater_masks(task.splits["test"])
    assert generate_slices(task.with_unet(task.pipeline.unet), some, num_inference_steps=1).shape == (6, 2, 16, 16)


def test_a_model_may_be_unconditional(vae: str) -> None:
    task = task_of(vae, conditioning="none", attention_head_dim=None, resblock_updown=True)
    assert task.conditions({"masks": torch.ones(2, 4, 4)}, BatchRandom(0)) == {}
    batch = task.collate([task.train_dataset[number] for number in range(4)])
    assert task.loss(task.modules, batch, BatchRandom(0))["loss"].isfinite()
    assert task.pipeline.unet.config["network"]["num_head_channels"] == [0, 16]
    some = first_rater_masks(task.splits["test"])
    assert generate_slices(task.with_unet(task.pipeline.unet), some, num_inference_steps=1).shape == (6, 2, 16, 16)


@pytest.mark.slow
def test_a_short_training_learns_and_leaves_a_pipeline(vae: str, tmp_path: Path) -> None:
    task = task_of(vae, save_in_fp16=True)
    assert task.pipeline.unet.mask_labels == {1: "core", 2: "rim"}
    batch = task.collate([task.train_dataset[number] for number in range(16)])
    with torch.no_grad():
        before = task.loss(task.modules, batch, BatchRandom(0))["loss"]
    settings = {"max_train_steps": 250, "train_batch_size": 8, "validation_steps": 250, "learning_rate": 5e-3}
    result = run(task, tmp_path / "run", **settings)
    with torch.no_grad():
        assert task.loss(result.modules, batch, BatchRandom(0))["loss"] < 0.95 * before
    pipeline = load(tmp_path / "run")
    assert isinstance(pipeline, LatentDiffusionPipeline) and pipeline.modalities == ("t1", "flair")
    assert list((tmp_path / "run" / "validation").iterdir())
    assert generate_slices(pipeline, first_rater_masks(task.splits["test"]), num_inference_steps=2).shape == (
        6,
        2,
        16,
        16,
    )
    assert task_of(None, pretrained_model_name_or_path=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="has classes"):
        other = LabelledDataConfig(resolution=16, modalities=["t1", "flair"], classes=["tumour"], spacing=2.0)
        start = LatentDiffusionConfig(pretrained_model_name_or_path=str(tmp_path / "run"))
        SliceDiffusionTask(other, start, task.splits)


@pytest.mark.parametrize(("patch", "kind"), [(1, AutoencoderKL), (2, MonaiAutoencoderKL)])
@pytest.mark.slow
def test_an_autoencoder_of_several_modalities(tmp_path: Path, patch: int, kind: Any) -> None:
    small = {"block_out_channels": [8, 16], "latent_channels": 2, "norm_num_groups": 4, "perceptual_weight": 0.1}
    small["patch_size"] = patch
    splits = {"train": squares(24), "test": squares(6, seed=1)}
    task = SliceAutoencoderTask(DATA, AutoencoderConfig(**small), splits)
    images = torch.from_numpy(images_of(splits["test"]))
    before = (reconstruct(task.vae, images) - images).abs().mean()
    run(task, tmp_path, max_train_steps=40)
    vae = kind.from_pretrained(tmp_path)
    assert (reconstruct(vae, images) - images).abs().mean() < 0.5 * before
    diffusion = task_of(str(tmp_path))  # a model of its latents
    assert type(diffusion.pipeline.vae) is kind and diffusion.pipeline.vae_scale_factor == 2 * patch
    assert generate_slices(diffusion.pipeline, first_rater_masks(splits["test"]), num_inference_steps=1).shape == (
        6,
        2,
        16,
        16,
    )
    one = LabelledDataConfig(resolution=16, modalities=["t1"], classes=["core", "rim"])
    with pytest.raises(ValueError, match="is for 2 channels; expected 1"):
        SliceAutoencoderTask(one, AutoencoderConfig(pretrained_model_name_or_path=str(tmp_path)), splits)
    with pytest.raises(ValueError, match="is an autoencoder in 2 dimensions; expected 3"):
        load_autoencoder(str(tmp_path), None, spatial_dims=3)
    report = task.evaluate(vae)
    assert report.value("mae") > 0


def test_the_perceptual_distance_compares_the_same_modality_and_each_in_turn() -> None:
    small = {"block_out_channels": [8, 16], "latent_channels": 2, "norm_num_groups": 4, "perceptual_weight": 0.1}
    splits = {"train": squares(8), "test": squares(2, seed=1)}
    task = SliceAutoencoderTask(DATA, AutoencoderConfig(**small), splits)
    batch = {"image": torch.from_numpy(images_of(splits["train"]))}

    def perceptual(kept: list[int], seed: int = 0) -> float:
        """Of an autoencoder that gives these modalities back, and nothing of others."""

        def vae(x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            back = torch.full_like(x, -1)
            back[:, kept] = x[:, kept]
            return back, torch.zeros(len(x))

        return float(task.loss({"vae": vae}, batch, BatchRandom(seed))["perceptual"])  # type: ignore[dict-item]

    assert perceptual([0, 1]) < 1e-6
    one, other, neither = perceptual([0]), perceptual([1]), perceptual([])
    assert one > 0.01 and other > 0.01 and one + other == pytest.approx(neither, rel=1e-4)
