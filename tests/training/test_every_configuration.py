"""Every configuration trains three steps in float32 and in bf16, with its networks and data shrunk.

Models that a configuration starts from are those that the configurations before it leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from helpers.short_run import forget_accelerator
from helpers.small_text_to_mr import text_rows
from helpers.small_volumes import SIZE, volume_rows

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.labelled_slices import row_features
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.training import TrainingConfig, train
from meddiffusers.training.engine import precision
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.attribute_vae import task as attribute_vae_task
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig
from meddiffusers.training.tasks.attribute_vae.task import AttributeVAETask
from meddiffusers.training.tasks.autoencoder.captioned import CaptionedAutoencoderTask
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig
from meddiffusers.training.tasks.autoencoder.slices import SliceAutoencoderTask
from meddiffusers.training.tasks.autoencoder.volumes import VolumeAutoencoderTask
from meddiffusers.training.tasks.image_diffusion.classifier import ClassifierConfig, ClassifierTask
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig
from meddiffusers.training.tasks.image_diffusion.task import ImageDiffusionTask
from meddiffusers.training.tasks.latent_diffusion.model import LatentDiffusionConfig
from meddiffusers.training.tasks.latent_diffusion.slices import SliceDiffusionTask
from meddiffusers.training.tasks.latent_diffusion.volumes import VolumeDiffusionTask
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig
from meddiffusers.training.tasks.segmentation.task import SegmentationTask
from meddiffusers.training.tasks.text_to_mr.attribute_predictor import AttributePredictorConfig, AttributePredictorTask
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.prompt_encoder import PromptEncoderConfig, PromptEncoderTask
from meddiffusers.training.tasks.text_to_mr.task import TextToMRTask

SIDE, ROWS, STEPS = 16, 8, 3
GRID = tuple(2 * side for side in SIZE)  # of volumes
CONFIGS = {path.stem: path for path in (Path(__file__).parents[2] / "training" / "configs").glob("*.yaml")}
FITTED = {"temporal_consistency"}  # which no training step is for
STARTS = {  # published repositories that configurations start from, and the configurations that make their like
    "examples/checkpoints/seg-ddpm-brain": "segmentation_brain",
    "examples/checkpoints/text-to-mr-brain": "text_to_mr_brain",
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": "prompt_encoder_brain",
}
SMALL: dict[str, Any] = {
    **{"layers_per_block": 1, "norm_num_groups": 4, "discriminator_channels": 8, "feature_channels": 16},
    **{"hidden_dim": 16, "vocabulary": 200, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"intermediate_size": 32, "attention_heads": 2, "captions_per_image": 1, "crop_size": 16},
    **{"resolution": SIDE, "sample_size": SIDE, "size": list(GRID), "spacing": 1.0, "covariates": ["age", "sex"]},
    **{"train_batch_size": 4, "max_train_steps": STEPS, "num_train_epochs": 1, "lr_warmup_steps": 1},
    **{"validation_steps": None, "checkpointing_steps": 100, "logging_steps": 1, "preprocessing_num_workers": None},
}


def labelled_rows(data: LabelledDataConfig) -> dict[str, datasets.Dataset]:
    rng, channels = np.random.default_rng(0), len(data.modalities)
    masks = rng.integers(0, len(data.classes) + 1, (ROWS, 1, SIDE, SIDE)).astype(np.uint8)
    columns = {
        "image": list(rng.integers(0, 1000, (ROWS, channels, SIDE, SIDE)).astype(np.int16)),
        "masks": [mask * (index % 2) for index, mask in enumerate(masks)],
        "subject": [str(index) for index in range(ROWS)],
    }
    features = datasets.Features(row_features(channels, 1, (SIDE, SIDE)))
    rows = datasets.Dataset.from_dict(columns, features=features)
    return {"train": rows, "test": rows}


def captioned_rows(_: CaptionedDataConfig) -> dict[str, datasets.Dataset]:
    return {"train": text_rows(ROWS), "test": text_rows(ROWS, seed=1)}


def volumes(_: VolumeDataConfig) -> dict[str, datasets.Dataset]:
    rows = volume_rows(ROWS)
    features = datasets.Features({**rows.features, "image": datasets.Array4D((1, *GRID), "int16")})
    rows = rows.map(lambda row: {"image": np.kron(row["image"], np.ones((1, 2, 2, 2), np.int16))}, features=features)
    return {"train": rows, "test": rows}


def attribute_rows(data: AttributeDataConfig) -> dict[str, datasets.Dataset]:
    """Blocks of growing size, whose attributes grow with them; as label maps, too."""
    images = np.zeros((ROWS, SIDE, SIDE), np.uint8)
    for index, image in enumerate(images):
        image[: 2 + index, : 2 + index] = 2 if "lv_area" in data.attributes else 255  # a label map, or an image
    columns = {name: [float(index) for index in range(ROWS)] for name in data.attributes}
    rows = datasets.Dataset.from_dict({"image": [PIL.Image.fromarray(image) for image in images], **columns})
    return {"train": rows, "test": rows}


@dataclass(frozen=True)
class Kind:
    """Classes of a kind of configuration, and its data."""

    data: Any
    model: Any
    task: Any
    rows: Callable[[Any], Mapping[str, datasets.Dataset]]


KINDS = {
    "anomaly_classifier": Kind(LabelledDataConfig, ClassifierConfig, ClassifierTask, labelled_rows),
    "ar_vae": Kind(AttributeDataConfig, AttributeVAEConfig, AttributeVAETask, attribute_rows),
    "vae": Kind(AttributeDataConfig, AttributeVAEConfig, AttributeVAETask, attribute_rows),
    "autoencoder": Kind(CaptionedDataConfig, AutoencoderConfig, CaptionedAutoencoderTask, captioned_rows),
    "image_diffusion": Kind(LabelledDataConfig, ImageDiffusionConfig, ImageDiffusionTask, labelled_rows),
    "attribute_predictor": Kind(CaptionedDataConfig, AttributePredictorConfig, AttributePredictorTask, captioned_rows),
    "prompt_encoder": Kind(CaptionedDataConfig, PromptEncoderConfig, PromptEncoderTask, captioned_rows),
    "segmentation": Kind(LabelledDataConfig, SegmentationModelConfig, SegmentationTask, labelled_rows),
    "text_to_mr": Kind(CaptionedDataConfig, TextToMRConfig, TextToMRTask, captioned_rows),
    "slice_autoencoder": Kind(LabelledDataConfig, AutoencoderConfig, SliceAutoencoderTask, labelled_rows),
    "slice_diffusion": Kind(LabelledDataConfig, LatentDiffusionConfig, SliceDiffusionTask, labelled_rows),
    "volume_autoencoder": Kind(VolumeDataConfig, AutoencoderConfig, VolumeAutoencoderTask, volumes),
    "volume_diffusion": Kind(VolumeDataConfig, LatentDiffusionConfig, VolumeDiffusionTask, volumes),
}


def kind_of(name: str) -> Kind:
    return KINDS[max((prefix for prefix in KINDS if f"{name}_".startswith(f"{prefix}_")), key=len)]


def shrunk(name: str, folder: Path, start: Callable[[str], Path]) -> dict[str, Any]:
    """The settings of a configuration, for a network of two levels; what it starts from is trained first."""
    settings = yaml.safe_load(CONFIGS[name].read_text())
    for key, value in settings.items():
        if key in SMALL:
            settings[key] = SMALL[key]
        elif key.endswith("block_out_channels") and value:
            settings[key] = [8, 8]
        elif key == "attention_levels" and value:
            settings[key] = [1]
        elif key == "attention_head_dim" and value:
            settings[key] = 4
        elif key == "patch_size":
            settings[key] = 1 if name.startswith("volume") else min(value, 2)
        elif key.endswith("_name_or_path"):
            settings[key] = str(start(value))
    needed: dict[str, Any] = {
        "max_train_steps": STEPS,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "lr_warmup_steps": 1,
    }
    known = {field for part in (kind_of(name).model, TrainingConfig) for field in part.__dataclass_fields__}
    needed = {key: value for key, value in needed.items() if key in known}
    if name.startswith("text_to_mr"):
        needed["spacing"] = 1.0
    if "measure" in settings:
        needed["measure"] = None  # attributes of other images
    return {**settings, **needed, "output_dir": str(folder)}


class Trainings:
    """Trains configurations in float32 once, for others to start from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, dict[str, Path]()

    def start(self, repository: str) -> Path:
        """The folder of a model like that of a repository."""
        outputs = {yaml.safe_load(path.read_text())["output_dir"]: name for name, path in CONFIGS.items()}
        name = STARTS.get(repository) or outputs[repository]
        if name not in self.done:
            self.done[name] = self.folder / name
            self.run(name, self.done[name], "no")
        return self.done[name]

    def run(self, name: str, folder: Path, mixed_precision: str) -> set[torch.dtype]:
        """Train; returns the types that the networks computed in."""
        kind = kind_of(name)
        file = folder.with_suffix(".yaml")
        file.write_text(yaml.safe_dump({**shrunk(name, folder, self.start), "mixed_precision": mixed_precision}))
        data, model, training = parse_config(kind.data, kind.model, TrainingConfig, argv=["--config", str(file)])
        rows, dtypes = kind.rows(data), set[torch.dtype]()
        torch.manual_seed(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attribute_vae_task, "load_attribute_data", lambda _: rows)
            patch.setattr(precision, "has_bf16", lambda _: True)
            task = kind.task(data, model) if kind.data is AttributeDataConfig else kind.task(data, model, rows)
            for module in task.modules.values():
                for part in module.modules():
                    if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear):
                        part.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype) or None)
            forget_accelerator()
            result = train(task, training)
            forget_accelerator()
        assert result.step == STEPS
        return dtypes


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    torch.set_num_threads(1)
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.mark.slow
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - FITTED))
def test_it_trains_three_steps(trainings: Trainings, tmp_path: Path, name: str, mixed_precision: str) -> None:
    dtypes = trainings.run(name, tmp_path / "run", mixed_precision)
    assert (torch.bfloat16 in dtypes) == (mixed_precision == "bf16")
