"""The autoencoder task: its terms, whose gradients they are, and what a short training leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.short_run import run
from helpers.small_text_to_mr import text_rows

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.generation.autoencoder import reconstruct
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.autoencoder.captioned import CaptionedAutoencoderTask
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig

SMALL: dict[str, Any] = {"block_out_channels": [8, 16], "latent_channels": 2, "norm_num_groups": 4}
DATA = CaptionedDataConfig(resolution=16)


def task_of(**config: Any) -> CaptionedAutoencoderTask:
    splits = {"train": text_rows(32), "test": text_rows(8, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CaptionedAutoencoderTask(
            DATA, AutoencoderConfig(**{**SMALL, "perceptual_weight": 0.0, **config}), splits
        )


def losses_of(task: CaptionedAutoencoderTask) -> dict[str, torch.Tensor]:
    batch = task.collate([task.train_dataset[number] for number in range(4)])
    return task.loss(task.modules, batch, BatchRandom(0))


def test_the_loss_is_its_terms() -> None:
    task = task_of(kl_weight=0.5)
    losses = losses_of(task)
    torch.testing.assert_close(losses["loss"], losses["error"] + 0.5 * losses["kl"])
    posterior = task.vae.encode(2 * torch.from_numpy(images_of(task.splits["train"].select(range(4)))) - 1).latent_dist
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).sum() / 4 / 16**2
    assert losses["kl"].item() == pytest.approx(divergence.item(), rel=0.05)  # some images are mirrored


def test_each_network_of_the_two_has_gradients_of_its_own_loss() -> None:
    task = task_of(adversarial_weight=0.3, kl_weight=0.0)
    losses = losses_of(task)
    losses["loss"].backward()
    both = {
        name: [weight.grad for weight in module.parameters() if weight.grad is not None]
        for name, module in task.modules.items()
    }
    alone = torch.autograd.grad(losses_of(task)["discriminator"], [*task.modules["discriminator"].parameters()])
    for one, other in zip(both["discriminator"], alone, strict=True):
        torch.testing.assert_close(one, other)
    losses = losses_of(task)
    apart = torch.autograd.grad(losses["error"], [*task.vae.parameters()])
    assert any(not torch.allclose(one, other, atol=1e-7) for one, other in zip(both["vae"], apart, strict=True))


def test_squares_alone_are_seen_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    task, shapes = task_of(crop_size=8), []
    forward = task.vae.forward
    monkeypatch.setattr(
        task.vae, "forward", lambda x, noise: shapes.append((x.shape, noise.shape)) or forward(x, noise)
    )
    losses_of(task)
    assert shapes == [((4, 1, 8, 8), (4, 2, 4, 4))]
    with pytest.raises(ValueError, match="crop_size=9; expected a multiple of 2"):
        task_of(crop_size=9)


@pytest.mark.slow
def test_a_short_training_leaves_an_autoencoder_with_its_scale(tmp_path: Path) -> None:
    task = task_of(adversarial_weight=0.01, perceptual_weight=0.1, save_in_fp16=True)
    images = torch.from_numpy(images_of(task.splits["test"]))
    before = (reconstruct(task.vae, images) - images).abs().mean()
    run(task, tmp_path, max_train_steps=40)
    vae = AutoencoderKL.from_pretrained(tmp_path)
    after = (reconstruct(vae, images) - images).abs().mean()
    assert after < 0.5 * before
    latents = vae.encode(2 * torch.from_numpy(images_of(task.splits["train"])) - 1).latent_dist.mean
    assert vae.config["scaling_factor"] == pytest.approx(1 / latents.std().item(), rel=1e-3)
    assert all(torch.equal(weight, weight.half().float()) for weight in vae.state_dict().values())
    report = task.evaluate(vae)
    assert report.value("mae") == pytest.approx(after.item(), rel=1e-3)
    assert CaptionedAutoencoderTask(DATA, AutoencoderConfig(pretrained_model_name_or_path=str(tmp_path)), task.splits)


@pytest.mark.slow
def test_a_frozen_encoder_makes_the_latents_that_it_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pretrained_model_name_or_path"):
        AutoencoderConfig(freeze_encoder=True)
    first = task_of()
    first.vae.register_to_config(scaling_factor=0.5)
    first.vae.save_pretrained(tmp_path / "first")
    task = task_of(pretrained_model_name_or_path=str(tmp_path / "first"), freeze_encoder=True)
    images = torch.from_numpy(images_of(task.splits["test"]))
    before = (reconstruct(task.vae, images) - images).abs().mean()
    run(task, tmp_path / "second", max_train_steps=40)
    vae = AutoencoderKL.from_pretrained(tmp_path / "second")
    assert torch.equal(vae.encode(images).latent_dist.parameters, first.vae.encode(images).latent_dist.parameters)
    assert vae.config["scaling_factor"] == 0.5
    assert (reconstruct(vae, images) - images).abs().mean() < 0.7 * before


def test_images_alike_are_at_no_perceptual_distance() -> None:
    task = task_of(perceptual_weight=1.0)
    images = torch.from_numpy(images_of(task.splits["test"]))
    assert task.perceptual is not None
    assert task.perceptual(images, images) == 0
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    more = torch.nn.functional.avg_pool2d(blurred, 3, 1, 1)
    assert 0 < task.perceptual(images, blurred) < task.perceptual(images, more)
    assert not any(weight.requires_grad for weight in task.perceptual.parameters())


def test_an_autoencoder_of_colours_is_refused(tmp_path: Path) -> None:
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is for 3 channels; expected 1"):
        CaptionedAutoencoderTask(
            DATA, AutoencoderConfig(pretrained_model_name_or_path=str(tmp_path)), {"train": text_rows(2)}
        )


def test_patches_that_no_model_of_these_images_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="patch_size=2; text-to-MR models use"):
        task_of(patch_size=2)
