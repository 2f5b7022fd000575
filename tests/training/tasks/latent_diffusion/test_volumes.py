"""Latent diffusion of volumes: its cache, its loss against brute force, what a short training learns, and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from helpers.short_run import run
from helpers.small_latent_diffusion import of_volumes
from helpers.small_volumes import SIZE, volume_rows

from meddiffusers import LatentDiffusionPipeline
from meddiffusers.datasets.rows import images_of
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.evaluation.generation.run import generate_volumes
from meddiffusers.hub.load import load
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.latent_diffusion.cache import cached_latents
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig, covariate_ranges
from meddiffusers.training.tasks.latent_diffusion.volumes import VolumeDiffusionTask

DATA = VolumeDataConfig(size=list(SIZE), covariates=["age", "sex"])
SMALL: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "attention_levels": [1],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


@pytest.fixture
def vae(tmp_path: Path) -> str:
    of_volumes().vae.save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


def task_of(vae: str | None, **config: Any) -> VolumeDiffusionTask:
    splits = {"train": volume_rows(24), "test": volume_rows(6, seed=1)}
    start = {} if vae is None else {"vae_name_or_path": vae, **SMALL}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VolumeDiffusionTask(DATA, LatentDiffusionConfig(**{**start, **config}), splits)


@torch.no_grad()
def test_the_cache_holds_latents_and_those_of_mirror_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pipeline = volume_rows(6), of_volumes()
    found = cached_latents(rows, pipeline, axis=2)
    for index, view in ((0, 0), (5, 1)):
        volume = torch.from_numpy(images_of(rows.select([index])))
        volume = volume.flip(2) if view else volume
        expected = pipeline.vae.encode(2 * volume - 1).latent_dist
        moments = torch.from_numpy(found[index, view].astype(np.float32))[None]
        torch.testing.assert_close(moments, torch.cat([expected.mean, expected.std], dim=1), atol=2e-3, rtol=2e-3)
    monkeypatch.setattr("meddiffusers.training.tasks.latent_diffusion.cache._moments", None)  # what would be called
    np.testing.assert_array_equal(cached_latents(rows, pipeline, axis=2), found)
    next(pipeline.vae.parameters()).mul_(1.5)
    with pytest.raises(TypeError, match="not callable"):
        cached_latents(rows, pipeline, axis=2)


@pytest.mark.parametrize("damage", [b"", b"x" * 100, b"PK\x03\x04", None, 2, 3])
def test_a_damaged_cache_is_computed_again(
    damage: bytes | int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    rows, pipeline = volume_rows(3), of_volumes()
    found = np.array(cached_latents(rows, pipeline, axis=2))
    (file,) = (tmp_path / "meddiffusers-latents").iterdir()
    if isinstance(damage, int):
        np.save(file, found[:damage].astype(np.float16 if damage == 2 else np.float32))
    else:
        file.write_bytes(file.read_bytes()[:-10] if damage is None else damage)
    np.testing.assert_array_equal(cached_latents(rows, pipeline, axis=2), found)
    assert f"The cache {file} is damaged" in caplog.text


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.slow
def test_the_loss_is_the_squared_error(vae: str, kind: str) -> None:
    task = task_of(vae, condition_dropout=0.0, prediction_type=kind)
    calls: list[Any] = []

    def network(x: torch.Tensor, times: torch.Tensor, covariates: torch.Tensor) -> Any:
        calls.append((x, times, covariates))
        return UNet2DOutput(sample=0.3 * x)

    batch = task.collate([task.train_dataset[number] for number in range(8)])
    batch["moments"][:, 2:] = 0  # no spread, so that z is known
    modules: Any = {"unet": network}
    loss = task.loss(modules, batch, BatchRandom(0))["loss"]
    [(x_t, times, covariates)] = calls
    z = (batch["moments"][:, :2] * task.pipeline.vae.config["scaling_factor"]).double()
    if kind == "flow":
        share = (times.double() / 1000).view(-1, 1, 1, 1, 1)
        noise = (x_t - (1 - share) * z) / share
        target = noise - z
    else:
        product = task.noise_scheduler.alphas_cumprod.double()[times].view(-1, 1, 1, 1, 1)
        noise = (x_t - product.sqrt() * z) / (1 - product).sqrt()
        target = {"epsilon": noise, "sample": z}.get(kind, product.sqrt() * noise - (1 - product).sqrt() * z)
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert loss.item() == pytest.approx((0.3 * x_t - target).square().mean().item(), rel=1e-3)
    assert torch.equal(covariates, batch["covariates"]) and covariates.min() >= 0 and covariates.max() <= 1


def test_covariates_are_left_out_together_and_one_by_one(vae: str) -> None:
    task = task_of(vae, condition_dropout=0.25)
    covariates = task.conditions({"covariates": torch.rand(4000, 2)}, BatchRandom(0))["covariates"]
    dropped = covariates == -1
    part = 1 - 0.75**2
    assert dropped.float().mean().item() == pytest.approx(part, abs=0.03)
    assert dropped.all(dim=1).float().mean().item() == pytest.approx(0.25 + 0.75 * 0.25**2, abs=0.03)


def test_ranges_are_those_of_the_training_volumes() -> None:
    rows = datasets.Dataset.from_dict({"age": [20.5, None, 70.2], "sex": ["M", "F", "M"], "site": ["a"] * 3})
    assert covariate_ranges(rows, ["age", "sex"]) == {"age": [20.0, 71.0], "sex": ["F", "M"]}
    with pytest.raises(ValueError, match="The covariate site is 'a' in all volumes"):
        covariate_ranges(rows, ["site"])
    empty = datasets.Dataset.from_dict({"age": [None, float("nan")]})
    with pytest.raises(ValueError, match="age is missing in all"):
        covariate_ranges(empty, ["age"])


@pytest.mark.slow
def test_a_short_training_learns_and_leaves_a_pipeline(vae: str, tmp_path: Path) -> None:
    task = task_of(vae, save_in_fp16=True)
    batch = task.collate([task.train_dataset[number] for number in range(16)])
    with torch.no_grad():
        before = task.loss(task.modules, batch, BatchRandom(0))["loss"]
    settings = {"max_train_steps": 150, "train_batch_size": 8, "validation_steps": 150, "learning_rate": 5e-3}
    result = run(task, tmp_path / "run", **settings)
    with torch.no_grad():
        assert task.loss(result.modules, batch, BatchRandom(0))["loss"] < 0.85 * before
    pipeline = load(tmp_path / "run")
    assert isinstance(pipeline, LatentDiffusionPipeline)
    assert pipeline.config["spacing"] == 2.0 and pipeline.modalities == ("t1",)
    assert all(torch.equal(weight, weight.half().float()) for weight in pipeline.unet.state_dict().values())
    assert list((tmp_path / "run" / "validation").iterdir())
    assert generate_volumes(pipeline, [{"age": 50.0}, {}], num_inference_steps=2).shape == (2, 1, *SIZE)
    assert task_of(None, pretrained_model_name_or_path=str(tmp_path / "run"))
    other = VolumeDataConfig(size=list(SIZE), covariates=["age"])
    with pytest.raises(ValueError, match="has covariates"):
        VolumeDiffusionTask(
            other, LatentDiffusionConfig(pretrained_model_name_or_path=str(tmp_path / "run")), task.splits
        )


@pytest.mark.slow
def test_an_adapter_is_trained_alone_and_loads(tmp_path: Path) -> None:
    base = of_volumes(spacing=2.0, modalities=("t1",))
    base.save_pretrained(tmp_path / "base")
    before = {file: file.read_bytes() for file in (tmp_path / "base").rglob("*.safetensors")}
    task = task_of(None, pretrained_model_name_or_path=str(tmp_path / "base"), rank=2)
    run(task, tmp_path / "adapter", max_train_steps=4)
    assert before == {file: file.read_bytes() for file in (tmp_path / "base").rglob("*.safetensors")}
    assert [file.name for file in (tmp_path / "adapter").glob("*.safetensors")] == ["pytorch_lora_weights.safetensors"]
    plain, adapted = load(tmp_path / "base"), load(tmp_path / "base")
    adapted.load_lora_weights(tmp_path / "adapter")
    one, other = (generate_volumes(each, [{"age": 50.0}], num_inference_steps=2) for each in (plain, adapted))
    assert not np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "flow", "snr_gamma": 5.0}, "which is not weighted"),
        ({"rank": 4}, "give --pretrained_model_name_or_path"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentDiffusionConfig(**config)


def test_a_new_model_needs_an_autoencoder() -> None:
    with pytest.raises(ValueError, match="Train it with"):
        task_of(None)
