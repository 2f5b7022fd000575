"""Components of the wrong kind, and pipelines without some of their components: given, saved, loaded and replaced."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.pipeline_contract import generator
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from helpers.gaussian_pipelines import PIPELINES, anomaly
from helpers.small_attribute_vae import calibrated
from helpers.small_latent_diffusion import of_images
from helpers.small_text_to_mr import small_text_to_mr

from meddiffusers import QuantityEncoder, ReversibleDDIMScheduler, TextToMRPipeline

PARTS = [
    *(("text", name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "quantity_encoder")),
    *(("latent", name) for name in ("vae", "unet", "scheduler")),
]


def built(name: str) -> Any:
    if name == "anomaly":
        return anomaly(ReversibleDDIMScheduler(prediction_type="v_prediction"), "v_prediction")
    scheduler = DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
    return PIPELINES[name](scheduler, "v_prediction")


@pytest.mark.parametrize("name", [*PIPELINES, "anomaly"])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, "ddim", 5, torch.nn.Linear(2, 2)])
def test_a_scheduler_is_an_instance(name: str, scheduler: Any) -> None:
    pipeline = built(name)
    before = pipeline.scheduler
    with pytest.raises(
        ValueError, match=r"The scheduler is .*; expected an instance .* pipe\.scheduler = DDIMScheduler"
    ):
        pipeline.scheduler = scheduler
    assert pipeline.scheduler is before
    with pytest.raises(ValueError, match=r"The scheduler is .*; expected an instance of a scheduler"):
        type(pipeline)(**pipeline.components | {"scheduler": scheduler})


@pytest.mark.parametrize("part", [AutoencoderKL, "vae", DDIMScheduler(), object()])
def test_models_are_instances_too(part: Any) -> None:
    for pipeline in (built("latent"), built("text"), calibrated()):
        with pytest.raises(ValueError, match=r"The vae is .*; expected an instance of a vae"):
            pipeline.vae = part
    with pytest.raises(ValueError, match=r"The tokenizer is .*; expected an instance of a tokenizer"):
        built("text").tokenizer = part
    for name in ("image", "segmentation", "anomaly"):
        for unet in (part, None):
            with pytest.raises(ValueError, match=r"The unet is .*; expected an instance of a unet"):
                built(name).unet = unet


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_what_is_saved_without_a_part_is_loaded_without_it(kind: str, name: str, tmp_path: Path) -> None:
    """Also by diffusers' own class, and the part can be put back and is saved then."""
    pipeline = small_text_to_mr() if kind == "text" else of_images()
    pipeline.save_pretrained(tmp_path / "whole")
    without = DiffusionPipeline.from_pretrained(tmp_path / "whole", **{name: None})
    assert [key for key, part in without.components.items() if part is None] == [name]
    without.save_pretrained(tmp_path / "smaller")
    assert not (tmp_path / "smaller" / name).exists()
    for loader in (DiffusionPipeline, type(pipeline)):
        loaded = loader.from_pretrained(tmp_path / "smaller")
        assert [key for key, part in loaded.components.items() if part is None] == [name]
    setattr(loaded, name, getattr(pipeline, name))
    loaded.save_pretrained(tmp_path / "again")
    assert None not in DiffusionPipeline.from_pretrained(tmp_path / "again").components.values()


def test_a_given_optional_part_takes_the_place_of_the_saved_one(tmp_path: Path) -> None:
    """diffusers' own loader overlooks parts whose parameter has a default."""
    small_text_to_mr().save_pretrained(tmp_path)
    own = QuantityEncoder(["age"], cross_attention_dim=16, hidden_dim=4)
    loaded = DiffusionPipeline.from_pretrained(tmp_path, quantity_encoder=own)
    assert loaded.quantity_encoder is own
    assert isinstance(DiffusionPipeline.from_pretrained(tmp_path).quantity_encoder, QuantityEncoder)


def test_parts_that_no_call_needs_are_optional_as_in_diffusers() -> None:
    pipeline = small_text_to_mr()
    assert pipeline._optional_components == ["quantity_encoder"]
    assert built("anomaly")._optional_components == ["classifier"]
    assert of_images()._optional_components == calibrated()._optional_components == []
    call: dict[str, Any] = {"num_inference_steps": 1, "output_type": "np"}
    bare = TextToMRPipeline(
        *(pipeline.components[n] for n in ("vae", "text_encoder", "tokenizer", "unet", "scheduler"))
    )
    pipeline.quantity_encoder = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = [one("t1 brain", generator=generator(0), **call).images for one in (pipeline, bare)]
    np.testing.assert_array_equal(images[0], images[1])


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("text", {"spacing": -1}, r"spacing=-1\.0; expected a length in mm above 0"),
        ("latent", {"spacing": float("nan")}, "spacing=nan; expected a finite number"),
        ("image", {"spacing": "1 mm"}, "spacing='1 mm'; expected a finite number"),
        ("text", {"image_range": (1, 1)}, r"image_range=\[1\.0, 1\.0\]; expected two different numbers"),
        ("anomaly", {"image_range": (0,)}, r"image_range=\[0\.0\]; expected two different numbers"),
        ("segmentation", {"mask_range": 1}, "Got 1; expected a list, or values by index"),
        ("image", {"modalities": "flair"}, "Got 'flair'; expected a list, or values by index"),
        ("image", {"modalities": ["t1"] * 4}, "modalities=.*; expected different names"),
        ("image", {"modalities": {"a": "t1"}}, "modalities=.*; expected different names, .* or by index"),
        (
            "segmentation",
            {"id2label": ["lesion"] * 2},
            "id2label has the names lesion, lesion; expected different ones",
        ),
        ("segmentation", {"num_tta_views": 1.5}, r"num_tta_views=1\.5; expected 1 to 4"),
        ("latent", {"noise_schedule": {}}, r"noise_schedule={}; expected that of describe_noise"),
        ("text", {"prompt_limits": 5}, "prompt_limits=5; expected words, modalities and ranges by name"),
    ],
)
def test_settings_that_cannot_be_meant(name: str, setting: dict[str, Any], message: str) -> None:
    pipeline = built(name)
    with pytest.raises(ValueError, match=message):
        type(pipeline)(**pipeline.components | setting)


def test_settings_are_checked_when_they_are_changed_too() -> None:
    pipeline = built("image")
    with pytest.raises(ValueError, match="spacing=0; expected a length in mm above 0"):
        pipeline.register_to_config(spacing=0)
    assert pipeline.config["spacing"] is None
