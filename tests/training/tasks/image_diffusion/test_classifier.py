"""The classifier's task: its loss, what a short training learns, and the pipeline that comes out."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.short_run import run
from helpers.small_segmentation import pipeline_of
from torch import Tensor, nn

from meddiffusers import AnomalyDetectionPipeline, ImageDiffusionPipeline, PatchUNet2DModel, ReversibleDDIMScheduler
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.hub.load import load
from meddiffusers.training import BatchRandom, TrainingResult
from meddiffusers.training.tasks.image_diffusion.classifier import ClassifierConfig, ClassifierTask
from meddiffusers.training.tasks.unets import build_noise_scheduler

SIZE = 16
SMALL: dict[str, Any] = {"block_out_channels": [8, 16], "norm_num_groups": 4}


def spots(count: int, seed: int) -> datasets.Dataset:
    """Grey images; every other one has a bright spot, which is marked."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 1, SIZE, SIZE), np.uint8)
    for number in range(1, count, 2):
        row, column = rng.integers(1, SIZE - 6, 2)
        masks[number, 0, row : row + 5, column : column + 5] = 1
    image = np.clip(0.4 + 0.5 * masks + rng.normal(0, 0.05, masks.shape), 0, 1)
    columns = {
        "image": list(np.rint(INTENSITY_SCALE * image).astype(np.int16)),
        "masks": list(masks),
        "subject": [str(index) for index in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(row_features(1, 1, (SIZE, SIZE))))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = {
            "block_out_channels": [4, 8],
            "down_block_types": ["DownBlock2D"] * 2,
            "up_block_types": ["UpBlock2D"] * 2,
            "norm_num_groups": 2,
        }
        unet = PatchUNet2DModel(in_channels=1, sample_size=SIZE, network=network)
    ImageDiffusionPipeline(unet, build_noise_scheduler("epsilon", "fixed_small"), modalities=["grey"]).save_pretrained(
        folder
    )
    return folder


def task_of(diffusion: Path, **config: Any) -> ClassifierTask:
    data = LabelledDataConfig(modalities=["grey"], classes=["lesion"], resolution=SIZE)
    splits = {"train": spots(96, seed=0), "test": spots(16, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"pretrained_model_name_or_path": str(diffusion), **SMALL, **config}
        return ClassifierTask(data, ClassifierConfig(**settings), splits)


class Recorder(nn.Module):
    """In the place of the classifier: keeps what it is given, and is sure of what is bright."""

    def forward(self, sample: Tensor, timestep: Tensor) -> SimpleNamespace:
        self.seen = sample, timestep
        return SimpleNamespace(logits=torch.stack([torch.zeros(len(sample)), sample.amax(dim=(1, 2, 3))], dim=1))


@pytest.mark.slow
def test_the_loss_is_the_cross_entropy_of_noisy_images(diffusion: Path) -> None:
    task, network = task_of(diffusion), Recorder()
    batch = task.collate([task.train_dataset[number] for number in range(64)])
    losses = task.loss({"classifier": network}, batch, BatchRandom(0))
    x_t, times = network.seen
    labels = torch.arange(64) % 2
    odds = x_t.amax(dim=(1, 2, 3)) * (2 * labels - 1)
    assert losses["loss"].item() == pytest.approx(torch.log1p((-odds).exp()).mean().item(), rel=1e-4)
    shares = torch.histc(times.float(), bins=4, min=0, max=1000) / 64
    assert (shares - 0.25).abs().max() < 0.2
    late = x_t[times > 900]
    assert late.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("first", "said"), [(0, "are without"), (1, "have")])
def test_one_label_alone_is_refused(diffusion: Path, monkeypatch: pytest.MonkeyPatch, first: int, said: str) -> None:
    whole = spots(96, seed=0)
    monkeypatch.setattr(sys.modules[__name__], "spots", lambda *_, **__: whole.select(range(first, 96, 2)))
    with pytest.raises(ValueError, match=rf"All training images of phantom {said} foreground; expected some with and"):
        task_of(diffusion)


def test_no_image_is_noisier_than_the_largest_time(diffusion: Path) -> None:
    task, network = task_of(diffusion, max_time=0.5), Recorder()
    task.loss(
        {"classifier": network}, task.collate([task.train_dataset[number] for number in range(64)]), BatchRandom(0)
    )
    _, times = network.seen
    assert 400 < times.max() < 500
    with pytest.raises(ValueError, match="max_time is 0"):
        ClassifierConfig(max_time=0.0)


@pytest.fixture(scope="module")
def trained(diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    settings = {"train_batch_size": 16, "max_train_steps": 80, "lr_scheduler": "cosine", "validation_steps": 80}
    return run(task_of(diffusion, save_in_fp16=True), tmp_path_factory.mktemp("trained"), **settings)


@pytest.mark.slow
class TestTraining:
    def test_it_tells_images_apart_while_the_noise_lets_it(self, diffusion: Path, trained: TrainingResult) -> None:
        task, pipeline = task_of(diffusion), load(trained.output_dir)
        images = torch.stack([task.train_dataset[number]["image"] for number in range(64)])
        x_t = task.noise_scheduler.add_noise(2 * images - 1, torch.randn(images.shape), torch.full((64,), 100))
        with torch.no_grad():
            found = pipeline.classifier(x_t, 100).logits.argmax(dim=1)
        assert (found == torch.arange(64) % 2).float().mean() > 0.9

    def test_what_comes_out_is_a_pipeline(self, diffusion: Path, trained: TrainingResult) -> None:
        pipeline = load(trained.output_dir)
        assert isinstance(pipeline, AnomalyDetectionPipeline) and pipeline.modalities == ("grey",)
        assert isinstance(pipeline.scheduler, ReversibleDDIMScheduler)
        assert pipeline.classifier.id2label == {0: "healthy", 1: "diseased"}
        for name, weight in load(str(diffusion)).unet.state_dict().items():
            assert torch.equal(pipeline.unet.state_dict()[name], weight)  # the diffusion model is as it was
        weights = pipeline.classifier.state_dict().values()
        assert all(torch.equal(weight, weight.half().float()) for weight in weights)
        assert len(list((trained.output_dir / "validation").glob("step-*/anomalies.png"))) == 1

    @pytest.mark.slow
    def test_its_report(self, diffusion: Path, trained: TrainingResult) -> None:
        report = task_of(diffusion).evaluate(load(trained.output_dir))
        assert {metric.dataset for metric in report.metrics} == {"phantom, test subjects"}
        assert 0 <= report.value("auroc_pixels") <= 1


@pytest.mark.slow
def test_what_does_not_fit_is_refused(diffusion: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pretrained_model_name_or_path is not set; a classifier guides a diffusion"):
        task_of(diffusion, pretrained_model_name_or_path="")
    pipeline_of().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a ConditionalSegmentationPipeline; expected an ImageDiffusionPipeline"):
        task_of(tmp_path)
    data = LabelledDataConfig(modalities=["flair"], classes=["lesion"], resolution=SIZE)
    with pytest.raises(ValueError, match=r"has modalities \['grey'\] \(here \['flair'\]\)"):
        ClassifierTask(data, ClassifierConfig(pretrained_model_name_or_path=str(diffusion)))
