"""The segmentation task: what a short training learns, what it goes on from, and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from helpers.short_run import run
from safetensors.torch import load_file
from torch import Tensor

from meddiffusers import ConditionalSegmentationPipeline, SegmentationUNet
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, row_features
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.hub.load import load
from meddiffusers.training import TrainingConfig, TrainingResult
from meddiffusers.training.engine import precision
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig, build_segmentation_pipeline
from meddiffusers.training.tasks.segmentation.task import SegmentationTask

ROOT = Path(__file__).parents[4]
SIZE = 32
SMALL: dict[str, Any] = {"block_out_channels": [16, 32], "norm_num_groups": 4}
ADAPTER = "pytorch_lora_weights.safetensors"


def discs(count: int, seed: int) -> datasets.Dataset:
    """Bright discs; one rater goes 1 pixel further than the other, and the reference lies between them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    radius, row, column = (rng.uniform(*ends, (count, 1, 1)) for ends in ((4, 9), (10, 22), (10, 22)))
    depth = radius - np.hypot(y - row, x - column)
    shades = np.where(depth[:, None] >= -0.5, 0.8, 0.3) + rng.normal(0, 0.05, (count, 1, SIZE, SIZE))
    columns = {
        "image": list(np.rint(INTENSITY_SCALE * shades.clip(0, 1)).astype(np.int16)),
        "masks": list(np.stack([depth >= 0, depth >= -1], axis=1).astype(np.uint8)),
        "subject": [str(index) for index in range(count)],
        "reference": list((depth >= -0.5).astype(np.uint8)),
    }
    features = row_features(1, 2, (SIZE, SIZE)) | {"reference": datasets.Array2D((SIZE, SIZE), "uint8")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def task_of(data: dict[str, Any] | None = None, **model: Any) -> SegmentationTask:
    """A task on discs, with a network of a fixed seed."""
    settings = {"modalities": ["grey"], "classes": ["disc"], "resolution": SIZE, **(data or {})}
    splits = {"train": discs(96, seed=0), "test": discs(16, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegmentationTask(LabelledDataConfig(**settings), SegmentationModelConfig(**{**SMALL, **model}), splits)


def dice_of(pipeline: ConditionalSegmentationPipeline, rows: datasets.Dataset) -> float:
    result = run_segmentation(pipeline, rows)
    both = ((result.mask > 0) & (result.reference > 0)).sum(axis=(1, 2))
    return float((2 * both / ((result.mask > 0).sum(axis=(1, 2)) + result.reference.sum(axis=(1, 2)))).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    task = task_of(noise_samples=2)
    settings = {"train_batch_size": 8, "max_train_steps": 120, "lr_scheduler": "cosine", "validation_steps": 120}
    return run(task, tmp_path_factory.mktemp("trained"), **settings)


@pytest.mark.slow
class TestTraining:
    @pytest.mark.slow
    def test_a_short_one_finds_discs(self, trained: TrainingResult) -> None:
        task = task_of()
        assert dice_of(task.build_pipeline(task.modules), task.splits["test"]) < 0.3
        pipeline = load(trained.output_dir)
        assert isinstance(pipeline, ConditionalSegmentationPipeline)
        found = dice_of(pipeline, task.splits["test"])
        assert found > 0.9
        report = task.evaluate(pipeline)
        assert report.value("dice_whole") == pytest.approx(found, abs=1e-6)
        assert {metric.dataset for metric in report.metrics} == {"phantom, test subjects"}
        assert len(list((trained.output_dir / "validation").glob("step-*/segmentation.png"))) == 1

    def test_its_samples_differ_as_the_raters_do(self, trained: TrainingResult) -> None:
        rows = discs(16, 1)
        result = run_segmentation(load(trained.output_dir), rows, ensemble_size=8)
        unsure = (result.probability[:, 1] > 0.1) & (result.probability[:, 1] < 0.9)
        differ = result.raters[:, 0] != result.raters[:, 1]
        assert unsure[differ].mean() > 5 * unsure[~differ].mean()

    def test_validation_measures_the_overlap(self, trained: TrainingResult) -> None:
        task = task_of()
        validation = task.validate(trained.modules, 0)
        assert 0.85 < validation.metrics["dice"] <= 1
        assert validation.images.keys() == {"segmentation"}

    def test_validation_leaves_the_precision_of_training_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precision, "has_bf16", lambda device: True)  # processors without it emulate it
        task, seen = task_of(), []
        network = task.unet.denoiser
        network.conv_in.register_forward_hook(lambda _, __, out: seen.append((network.training, out.dtype)))
        run(task, tmp_path, max_train_steps=2, validation_steps=1, mixed_precision="bf16")
        assert [dtype for training, dtype in seen if training] == [torch.bfloat16] * 2

    def test_weights_are_rounded_where_they_are_stored_so(self) -> None:
        task = task_of(save_in_fp16=True)
        before = {name: weight.detach().clone() for name, weight in task.unet.named_parameters()}
        rounded = dict(task.build_pipeline(task.modules).unet.named_parameters())
        assert all(torch.equal(rounded[name], weight.half().float()) for name, weight in before.items())
        assert any((rounded[name] != weight).any() for name, weight in before.items())

    @pytest.mark.parametrize("rank", [None, 2])
    @pytest.mark.slow
    def test_an_interrupted_run_ends_as_an_uninterrupted_one(
        self, trained: TrainingResult, tmp_path: Path, rank: int | None
    ) -> None:
        repository = {"pretrained_model_name_or_path": str(trained.output_dir), "rank": rank} if rank else {}
        settings: dict[str, Any] = {"use_ema": True, "ema_decay": 0.5}
        whole = run(task_of(**repository), tmp_path / "whole", max_train_steps=8, **settings)
        run(task_of(**repository), tmp_path / "parts", max_train_steps=4, **settings)
        parts = run(
            task_of(**repository), tmp_path / "parts", max_train_steps=8, resume_from_checkpoint="latest", **settings
        )
        mine, theirs = (result.modules["unet"].state_dict() for result in (parts, whole))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        if rank:
            files = [load_file(tmp_path / name / ADAPTER) for name in ("parts", "whole")]
            assert all(torch.equal(files[0][name], tensor) for name, tensor in files[1].items())


def predicted(pipeline: Any) -> Tensor:
    """Probabilities of two images."""
    image = torch.from_numpy(np.stack(discs(2, 5)["image"]) / INTENSITY_SCALE).float()
    noise = torch.Generator().manual_seed(0)
    return pipeline(image, 3, ensemble_size=2, generator=noise, output_type="pt").probability


@pytest.mark.slow
class TestAdapter:
    @pytest.fixture(scope="class")
    def adapted(self, trained: TrainingResult, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
        task = task_of(pretrained_model_name_or_path=str(trained.output_dir), rank=2, lora_alpha=8)
        return run(task, tmp_path_factory.mktemp("adapted"), max_train_steps=6, learning_rate=1e-2)

    def test_nothing_else_is_trained(self, adapted: TrainingResult, trained: TrainingResult) -> None:
        before = trained.modules["unet"].state_dict()
        names = dict(adapted.modules["unet"].named_parameters())
        assert {name for name, weight in names.items() if weight.requires_grad} == {n for n in names if "lora_" in n}
        base = {n.replace(".base_layer", ""): weight for n, weight in names.items() if "lora_" not in n}
        assert base.keys() == before.keys()
        assert all(torch.equal(base[name], before[name]) for name in before)
        assert all(weight.any() for name, weight in names.items() if "lora_B" in name)  # they begin at 0

    def test_it_is_all_that_the_folder_holds(self, adapted: TrainingResult) -> None:
        files = {path.relative_to(adapted.output_dir).as_posix() for path in adapted.output_dir.glob("[!c.]*")}
        assert files == {ADAPTER, "log.jsonl"}
        layers = load_file(adapted.output_dir / ADAPTER)
        assert all(name.startswith("unet.denoiser.") and ".lora_" in name for name in layers)
        assert {tensor.dtype for tensor in layers.values()} == {torch.float16}

    def test_it_loads_into_the_repository(self, adapted: TrainingResult, trained: TrainingResult) -> None:
        pipeline = load(trained.output_dir)
        without = predicted(pipeline)
        weights = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
        pipeline.load_lora_weights(str(adapted.output_dir))
        with_it = predicted(pipeline)
        assert (with_it - without).abs().max() > 0.05
        assert (with_it - predicted(adapted.pipeline)).abs().max() < 0.02  # half precision, and α / rank = 4
        pipeline.unload_lora_weights()
        restored = pipeline.unet.state_dict()
        assert restored.keys() == weights.keys()
        assert all(torch.equal(restored[name], weight) for name, weight in weights.items())
        # Kernels sum in an order that depends on where the tensors lie in memory, so predictions are not bitwise equal.
        torch.testing.assert_close(predicted(pipeline), without, rtol=0, atol=1e-4)

    def test_it_needs_a_repository(self) -> None:
        with pytest.raises(ValueError, match=r"rank=4 but pretrained_model_name_or_path is not set; .* give --pretr"):
            task_of(rank=4)


class TestStartingFromARepository:
    def test_it_has_the_weights(self, trained: TrainingResult) -> None:
        task = task_of(pretrained_model_name_or_path=str(trained.output_dir), prediction_type="epsilon")
        weights = task.unet.state_dict()
        assert all(torch.equal(weights[name], one) for name, one in trained.modules["unet"].state_dict().items())
        assert task.diffusion_loss.noise_scheduler.config["prediction_type"] == "sample"  # the repository's

    def test_another_kind_of_data_is_refused(self, trained: TrainingResult) -> None:
        name = str(trained.output_dir)
        with pytest.raises(
            ValueError,
            match=r"has modalities \['grey'\] \(here \['t1'\]\), classes \['disc'\] \(here \['a', 'b'\]\), "
            r"spacing None \(here 2\.0\)\. Configure the same to start from it",
        ):
            task_of({"modalities": ["t1"], "classes": ["a", "b"], "spacing": 2.0}, pretrained_model_name_or_path=name)
        with pytest.raises(ValueError, match=r"trained\d+ has classes \['disc'\] \(here \['spot'\]\)\. Configure"):
            task_of({"classes": ["spot"]}, pretrained_model_name_or_path=name)

    def test_another_kind_of_pipeline_is_refused(self) -> None:
        other = str(ROOT / "examples" / "checkpoints" / "ar-vae-mnist")
        with pytest.raises(ValueError, match="holds a AttributeVAEPipeline; expected a ConditionalSegmentationPipel"):
            task_of(pretrained_model_name_or_path=other)

    @pytest.mark.parametrize("rank", [None, 2])
    @pytest.mark.slow
    def test_one_network_for_image_and_mask_goes_on(self, tmp_path: Path, rank: int | None) -> None:
        torch.manual_seed(0)
        joint = UNet2DModel(
            sample_size=SIZE,
            in_channels=2,
            out_channels=1,
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
        scheduler = DDIMScheduler(prediction_type="epsilon", timestep_spacing="trailing")
        labels = {0: "background", 1: "disc"}
        known = {"modalities": ["grey"], "id2label": labels, "mask_range": [0.0, 1.0]}
        pipeline = ConditionalSegmentationPipeline(joint, scheduler, **known)
        pipeline.save_pretrained(tmp_path / "joint")
        task = task_of(pretrained_model_name_or_path=str(tmp_path / "joint"), rank=rank)
        assert isinstance(task.unet, SegmentationUNet)
        begun = task.build_pipeline(task.modules)
        assert begun.mask_range == (0.0, 1.0)
        assert task.diffusion_loss.noise_scheduler.config["prediction_type"] == "epsilon"
        mask, scan = torch.randn(2, 1, SIZE, SIZE), torch.rand(2, 1, SIZE, SIZE)
        with torch.no_grad():
            same = begun.unet(mask, 5, image=scan).sample
            torch.testing.assert_close(same, joint(torch.cat([scan, mask], dim=1), 5).sample, atol=1e-5, rtol=0)
        result = run(task, tmp_path / "out", max_train_steps=2)
        assert not torch.equal(predicted(result.pipeline), predicted(pipeline))
        assert (tmp_path / "out" / (ADAPTER if rank else "model_index.json")).is_file()


def test_the_network_of_the_paper() -> None:
    file = ROOT / "training" / "configs" / "segmentation_paper.yaml"
    data, model, training = parse_config(
        LabelledDataConfig, SegmentationModelConfig, TrainingConfig, argv=["--config", str(file)]
    )
    assert (training.train_batch_size, training.max_train_steps, training.learning_rate) == (10, 60_000, 1e-4)
    with torch.device("meta"):
        pipeline = build_segmentation_pipeline(data, model)
    assert sum(weight.numel() for weight in pipeline.unet.parameters()) == 113_674_370
    assert pipeline.unet.denoiser.config["in_channels"] == 5
    assert pipeline.unet.config["out_channels"] == 2 and pipeline.unet.image_encoder is None
    assert pipeline.scheduler.config["variance_type"] == "learned_range"
    assert pipeline.scheduler.config["prediction_type"] == "epsilon"
