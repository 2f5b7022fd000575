"""The publishing rules: one repository opens with the package and without it, from a folder and from a Hub over HTTP.

The oracle is always the same: the images decoded from fixed latents are bitwise those of the pipeline that was
published, and what is saved again is byte by byte what was opened.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler, DiffusionPipeline
from helpers.hub_evidence import decoded, denoised, tree
from helpers.hub_fixtures import CHECKS, FIRST, PIPELINE, SAVING, decoded_negatives, stock_pipeline, tiny_pipeline

from meddiffusers import AttributeVAE, AttributeVAEPipeline

PLACES = pytest.mark.parametrize("place", ["folder", "hub"])
PUBLISHED = {
    "model_index.json",
    f"{PIPELINE}.py",
    f"{SAVING}.py",
    f"{CHECKS}.py",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    f"vae/{FIRST}.py",
}


def saved_part(repository: Path) -> dict[str, bytes]:
    """What a pipeline's save_pretrained wrote of a repository: all but card and report."""
    return {name: content for name, content in tree(repository).items() if name in PUBLISHED}


def without_origin(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files without the line `_name_or_path`, which diffusers' own classes write into their configurations."""
    return {name: re.sub(rb' *"_name_or_path": "[^\n]*\n', b"", content) for name, content in files.items()}


def test_the_fingerprints_tell_pipelines_apart() -> None:
    fingerprints = [decoded(tiny_pipeline(0)), decoded(tiny_pipeline(1)), decoded_negatives(0), decoded_negatives(1)]
    assert len(set(fingerprints)) == 4
    assert decoded(tiny_pipeline(0)) == fingerprints[0]
    assert denoised(stock_pipeline()) != denoised(stock_pipeline(DDIMScheduler()))


def test_save_pretrained_writes_a_whole_repository(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    files = tree(tmp_path)
    assert set(files) == PUBLISHED
    assert (
        json.loads(files["model_index.json"]).items()
        >= {
            "_class_name": "AttributeVAEPipeline",
            "vae": [FIRST, "AttributeVAE"],
        }.items()
    )
    assert files[f"vae/{FIRST}.py"] == Path(inspect.getfile(AttributeVAE)).read_bytes()
    assert files[f"{PIPELINE}.py"] == Path(inspect.getfile(AttributeVAEPipeline)).read_bytes()


def test_a_saved_repository_opens_and_saves_again_the_same(tmp_path: Path, repositories: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(repositories / "first")
    assert decoded(pipeline) == decoded(tiny_pipeline(seed=0))
    pipeline.save_pretrained(tmp_path)
    assert tree(tmp_path) == saved_part(repositories / "first")


@PLACES
def test_with_the_package_no_remote_code_is_run(with_package: dict[str, Any], place: str) -> None:
    images = decoded(tiny_pipeline(seed=0))
    assert with_package[place]["first"] == {
        "images": images,
        "pipeline": AttributeVAEPipeline.__module__,
        "model": AttributeVAE.__module__,
        "AutoModel": AttributeVAE.__module__,
        "AutoModel's images": images,
    }


@PLACES
def test_with_the_package_a_repository_saves_again_the_same(
    with_package: dict[str, Any], repositories: Path, place: str
) -> None:
    assert tree(with_package["work"] / place) == saved_part(repositories / "first")


@PLACES
def test_with_the_package_another_version_needs_trust(with_package: dict[str, Any], place: str) -> None:
    evidence = dict(with_package[place]["versions"])
    assert re.search(
        r"custom code in meddiffusers_attribute_vae_v2\.py.*trust_remote_code", evidence.pop("untrusted"), re.S
    )
    assert evidence == {
        "second": decoded_negatives(seed=1),
        "second's model": "diffusers_modules",
        "first": decoded(tiny_pipeline(seed=0)),
        "first, trusted": AttributeVAE.__module__,
    }


def test_with_the_package_a_cached_repository_opens_offline(with_package: dict[str, Any]) -> None:
    assert with_package["offline"] == decoded(tiny_pipeline(seed=0))


@PLACES
def test_with_the_package_a_stock_pipeline_keeps_its_scheduler(
    with_package: dict[str, Any], repositories: Path, place: str
) -> None:
    assert with_package[place]["stock"] == {
        "images": denoised(stock_pipeline()),
        "scheduler": "helpers.damped_ddim_scheduler",
    }
    saved = tree(with_package["work"] / f"{place} stock")
    assert without_origin(saved) == tree(repositories / "stock")


def test_without_the_package_it_is_really_absent(without_package: dict[str, Any]) -> None:
    assert without_package["import meddiffusers"].startswith("ModuleNotFoundError")
    assert not without_package["scheduler imported"]


@PLACES
def test_without_the_package_the_repository_brings_its_code(
    without_package: dict[str, Any], repositories: Path, place: str
) -> None:
    assert without_package[place]["versions"]["first"] == decoded(tiny_pipeline(seed=0))
    assert tree(without_package["work"] / place) == saved_part(repositories / "first")
    assert tree(without_package["work"] / f"{place} second") == tree(repositories / "second")


@PLACES
def test_without_the_package_two_versions_live_side_by_side(without_package: dict[str, Any], place: str) -> None:
    first, second = decoded(tiny_pipeline(seed=0)), decoded_negatives(seed=1)
    assert without_package[place]["versions"] == {
        "first": first,
        "second": second,
        "first, after the second": first,
        "first, opened again": first,
        "second, after that": second,
    }


@PLACES
def test_without_the_package_no_code_runs_untrusted(without_package: dict[str, Any], place: str) -> None:
    message = rf"custom code in {PIPELINE}\.py.*Pass `trust_remote_code=True`"
    assert re.search(message, without_package[place]["untrusted"], re.S)


@PLACES
def test_without_the_package_a_stock_pipeline_keeps_its_scheduler(
    without_package: dict[str, Any], repositories: Path, place: str
) -> None:
    evidence = without_package[place]["stock"]
    assert evidence["images"] == denoised(stock_pipeline())
    assert "custom code in meddiffusers_damped_ddim_scheduler_v1.py" in evidence["untrusted"]
    saved = tree(without_package["work"] / f"{place} stock")
    assert without_origin(saved) == tree(repositories / "stock")


def test_without_the_package_a_revision_pins_weights_and_code(without_package: dict[str, Any]) -> None:
    first, second = decoded(tiny_pipeline(seed=0)), decoded_negatives(seed=1)
    assert without_package["hub"]["revisions"] == {"newest": second, "tag": first, "commit": first}


def test_without_the_package_a_cached_repository_opens_offline(without_package: dict[str, Any]) -> None:
    assert without_package["offline"] == decoded_negatives(seed=1)
