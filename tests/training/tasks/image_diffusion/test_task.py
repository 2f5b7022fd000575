"""The denoising task: its loss against brute force, what a short training learns, and adapters."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from helpers.short_run import run
from helpers.small_segmentation import pipeline_of
from torch import Tensor, nn

from meddiffusers import ImageDiffusionPipeline, PatchUNet2DModel
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.evaluation.generation.fidelity import generate_images
from meddiffusers.hub.load import load
from meddiffusers.training import BatchRandom, TrainingResult
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig
from meddiffusers.training.tasks.image_diffusion.task import ImageDiffusionTask

SIZE = 16
SMALL: dict[str, Any] = {"block_out_channels": [16, 32], "norm_num_groups": 4}


def shades(count: int, seed: int) -> datasets.Dataset:
    """Images of one grey and its half: the dark ones are healthy, of the bright ones all is marked."""
    rng = np.random.default_rng(seed)
    bright = np.arange(count) % 2 == 1
    level = np.where(bright, rng.uniform(0.6, 0.9, count), rng.uniform(0.1, 0.3, count))
    image = np.stack([level, level / 2], axis=1)[..., None, None] * np.ones((SIZE, SIZE))
    columns = {
        "image": list(np.rint(INTENSITY_SCALE * image).astype(np.int16)),
        "masks": list((bright[:, None, None, None] * np.ones((1, SIZE, SIZE))).astype(np.uint8)),
        "subject": [str(index) for index in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(row_features(2, 1, (SIZE, SIZE))))


def task_of(**model: Any) -> ImageDiffusionTask:
    data = LabelledDataConfig(modalities=["one", "half"], classes=["lesion"], resolution=SIZE)
    splits = {"train": shades(64, seed=0), "test": shades(16, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageDiffusionTask(data, ImageDiffusionConfig(**{**SMALL, **model}), splits)


class Recorder(nn.Module):
    """In the place of the network: keeps what it is given and predicts a multiple of it."""

    def __init__(self, per_image: int = 1) -> None:
        super().__init__()
        self.per_image, self.calls = per_image, []

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None) -> SimpleNamespace:
        self.calls.append((sample, timestep, class_labels))
        return SimpleNamespace(sample=0.3 * torch.cat([sample] * self.per_image, dim=1))


def batch_of(task: ImageDiffusionTask, count: int) -> dict[str, Tensor]:
    return task.collate([task.train_dataset[number] for number in range(count)])


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_loss_is_the_squared_error(kind: str) -> None:
    task, network = task_of(prediction_type=kind), Recorder()
    batch = batch_of(task, 8)
    losses = task.loss({"unet": network}, batch, BatchRandom(0))
    [(x_t, times, labels)] = network.calls
    assert labels is None and x_t.shape == (8, 2, SIZE, SIZE)
    product = (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(dim=0)[times].view(-1, 1, 1, 1)
    x0 = 2 * batch["image"].double() - 1  # all of a grey: mirroring shows nothing
    noise = (x_t - product.sqrt() * x0) / (1 - product).sqrt()
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    target = {"sample": x0, "epsilon": noise, "v_prediction": product.sqrt() * noise - (1 - product).sqrt() * x0}
    assert losses["loss"].item() == pytest.approx((0.3 * x_t - target[kind]).square().mean().item(), rel=1e-4)


def test_labels_say_what_is_marked_but_for_some() -> None:
    task, network = task_of(label_dropout=0.25), Recorder()
    batch, random = batch_of(task, 64), BatchRandom(0)
    seen = []
    for _ in range(20):
        task.loss({"unet": network}, batch, random)
        seen.append(network.calls[-1][2])
    labels = torch.stack(seen)
    marked = batch["masks"].flatten(1).any(dim=1)
    unknown = labels == 2
    assert torch.equal(labels[~unknown].bool(), marked.expand_as(labels)[~unknown])
    assert unknown.float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert task.pipeline.unet.id2label == {0: "healthy", 1: "diseased"}


def test_times_in_focus() -> None:
    task, network = task_of(importance_share=1.0, importance_range=[0.2, 0.3]), Recorder()
    task.loss({"unet": network}, batch_of(task, 64), BatchRandom(0))
    times = network.calls[0][1]
    assert 200 <= times.min() < 220 and 280 < times.max() < 300
    with pytest.raises(ValueError, match=r"importance_range is \[0.3, 0.2\]; expected two increasing numbers"):
        task_of(importance_range=[0.3, 0.2])


def test_modalities_are_left_out() -> None:
    task, network = task_of(modality_dropout=1.0), Recorder()
    task.noise_scheduler.alphas_cumprod[:] = 1 - 1e-8  # no noise to speak of
    task.loss({"unet": network}, batch_of(task, 64), BatchRandom(0))
    black = (network.calls[0][0].amax(dim=(2, 3)) < -0.99).sum(dim=1)
    assert set(black.tolist()) == {0, 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    task = task_of(label_dropout=0.2, save_in_fp16=True, prediction_type="sample")
    settings = {"train_batch_size": 16, "max_train_steps": 150, "lr_scheduler": "cosine", "validation_steps": 150}
    return run(task, tmp_path_factory.mktemp("trained"), **settings)


@pytest.mark.slow
class TestTraining:
    def test_images_are_as_the_label_says(self, trained: TrainingResult) -> None:
        pipeline = load(trained.output_dir)
        assert isinstance(pipeline, ImageDiffusionPipeline)
        means = {
            label: generate_images(pipeline, 8, label=label).mean(axis=(2, 3)) for label in ("healthy", "diseased")
        }
        assert (means["healthy"][:, 0] < 0.45).all() and (means["diseased"][:, 0] > 0.45).all()
        every = np.concatenate(list(means.values()))
        np.testing.assert_allclose(every[:, 1], every[:, 0] / 2, atol=0.12)  # the modalities go together

    def test_what_it_leaves(self, trained: TrainingResult) -> None:
        assert len(list((trained.output_dir / "validation").glob("step-*/generated.png"))) == 1
        weights = load(trained.output_dir).unet.state_dict()
        assert all(torch.equal(weight, weight.half().float()) for weight in weights.values())


@pytest.mark.slow
def test_it_goes_on_from_a_repository(tmp_path: Path) -> None:
    first = task_of()
    first.pipeline.save_pretrained(tmp_path)
    again = task_of(pretrained_model_name_or_path=str(tmp_path))
    for name, weight in first.unet.state_dict().items():
        torch.testing.assert_close(again.unet.state_dict()[name], weight)
    with pytest.raises(ValueError, match=r"has modalities \['one', 'half'\] \(here \['grey'\]\)\. Configure the same"):
        data = LabelledDataConfig(modalities=["grey"], classes=["lesion"], resolution=SIZE)
        ImageDiffusionTask(data, ImageDiffusionConfig(pretrained_model_name_or_path=str(tmp_path)))


@pytest.mark.slow
def test_an_adapter_is_all_that_is_trained_and_saved(tmp_path: Path) -> None:
    task_of().pipeline.save_pretrained(tmp_path / "base")
    task = task_of(pretrained_model_name_or_path=str(tmp_path / "base"), rank=2)
    before = {name: weight.clone() for name, weight in task.unet.state_dict().items() if "lora" not in name}
    result = run(task, tmp_path / "adapter", train_batch_size=8, max_train_steps=5)
    assert all(torch.equal(task.unet.state_dict()[name], weight) for name, weight in before.items())
    assert not (result.output_dir / "model_index.json").exists()
    pipeline: Any = load(str(tmp_path / "base"))
    plain = generate_images(pipeline, 1, num_inference_steps=2)
    pipeline.load_lora_weights(result.output_dir)
    adapted = generate_images(pipeline, 1, num_inference_steps=2)
    assert not np.allclose(plain, adapted, atol=1e-4)
    np.testing.assert_allclose(adapted, generate_images(result.pipeline, 1, num_inference_steps=2), atol=1e-2)


def test_an_adapter_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rank=4 but pretrained_model_name_or_path is not set"):
        task_of(rank=4)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    pipeline_of().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a ConditionalSegmentationPipeline; expected an ImageDiffusionPipeline"):
        task_of(pretrained_model_name_or_path=str(tmp_path))


def test_it_takes_a_plain_unet(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=SIZE,
        in_channels=2,
        out_channels=2,
        block_out_channels=[4, 8],
        down_block_types=["DownBlock2D"] * 2,
        up_block_types=["UpBlock2D"] * 2,
        norm_num_groups=2,
    )
    ImageDiffusionPipeline(unet, DDIMScheduler(), modalities=["one", "half"]).save_pretrained(tmp_path)
    assert isinstance(task_of(pretrained_model_name_or_path=str(tmp_path)).unet, PatchUNet2DModel)
