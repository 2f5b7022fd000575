"""Saving and `from_pipe`, which all pipelines share; what each pipeline writes is part of its contract tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel
from helpers.small_segmentation import NETWORK, SCHEDULE, pipeline_of

from meddiffusers import ConditionalSegmentationPipeline, ImageDiffusionPipeline
from meddiffusers.pipelines.conditional_segmentation_pipeline import PUBLISHED_AS
from meddiffusers.pipelines.meddiffusers_saving_v1 import PublishedPipelineMixin


def image_pipeline() -> ImageDiffusionPipeline:
    unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=4, **NETWORK)
    return ImageDiffusionPipeline(unet, DDIMScheduler(**SCHEDULE))


# this module imports PUBLISHED_AS, which does not make it a published file
def test_a_subclass_elsewhere_saves_the_published_file_of_its_base(tmp_path: Path) -> None:
    class Variant(ConditionalSegmentationPipeline):
        pass

    pipeline = pipeline_of()
    Variant(**pipeline.components).save_pretrained(tmp_path)
    assert (tmp_path / f"{PUBLISHED_AS}.py").is_file()
    assert (tmp_path / "meddiffusers_saving_v1.py").is_file()


def test_a_class_without_a_published_file_is_refused(tmp_path: Path) -> None:
    class Unpublished(PublishedPipelineMixin, DiffusionPipeline):
        pass

    with pytest.raises(TypeError, match="module of Unpublished has no PUBLISHED_AS"):
        Unpublished().save_config(tmp_path)


def test_no_configuration_holds_a_local_path(tmp_path: Path) -> None:
    image_pipeline().save_pretrained(tmp_path / "first")
    loaded = ImageDiffusionPipeline.from_pretrained(tmp_path / "first")
    assert str(tmp_path) in loaded.unet.config["_name_or_path"]
    loaded.save_pretrained(tmp_path / "second")
    configs = sorted((tmp_path / "second").rglob("*.json"))
    assert len(configs) == 3
    assert not any("_name_or_path" in json.loads(path.read_text(encoding="utf-8")) for path in configs)


def test_from_pipe_takes_other_components_and_settings() -> None:
    pipeline, scheduler = image_pipeline(), DDIMScheduler()
    other = ImageDiffusionPipeline.from_pipe(pipeline, scheduler=scheduler, spacing=2.0)
    assert other.unet is pipeline.unet
    assert other.scheduler is scheduler
    assert other.config["spacing"] == 2.0
