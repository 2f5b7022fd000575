"""Values inside settings: `info` and `load` refuse by one rule what annotations do not express."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import stops
from helpers.hub_fixtures import copy, stock_pipeline, tiny_pipeline
from helpers.small_latent_diffusion import of_volumes
from helpers.small_segmentation import pipeline_of, small_unet
from helpers.small_text_to_mr import small_text_to_mr

from meddiffusers.hub import RepositoryError, load
from meddiffusers.hub.checks import code_issues, repository_issues
from meddiffusers.hub.setting_rules import rule_issues
from meddiffusers.models.attribute_vae import AttributeVAE

INDEX, VAE, UNET = "model_index.json", "vae/config.json", "unet/config.json"
SCHEDULER = "scheduler/scheduler_config.json"
NAN, INFINITE = math.nan, math.inf
WEIGHTS = "vae/diffusion_pytorch_model.safetensors"
LIMITS = {"words": "t1 brain", "modalities": "t1", "ranges": {"age": [18, 90]}}
Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole repositories, not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().save_pretrained(folder / "images")
    of_volumes().save_pretrained(folder / "volumes")
    small_text_to_mr().save_pretrained(folder / "texts")
    pipeline_of(small_unet()).save_pretrained(folder / "masks")
    stock_pipeline().save_pretrained(folder / "stock")
    return folder


def edited(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def changed(name: str, **entries: Any) -> Damage:
    return edited(name, lambda content: content.update(entries))


def all_named(setting: str, name: str) -> Damage:
    return edited(INDEX, lambda index: index.update({setting: dict.fromkeys(index[setting], name)}))


def noise(**entries: Any) -> Damage:
    return edited(INDEX, lambda index: index["noise_schedule"].update(entries))


def limits(**entries: Any) -> Damage:
    return changed(INDEX, prompt_limits={**LIMITS, **entries})


def marked(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())


def folder_in_place(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def link_to_nothing(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("nothing")


def index_of_shards(folder: Path) -> None:
    content = {"metadata": {}, "weight_map": {"a": "../../x.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


MOMENTS = {"mean": [0.0] * 3, "covariance": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]}
CALIBRATION = {"slant": {"unit": "rad", "values": ["1", "2"], "latents": [1, 2]}}
DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "no factor": ("volumes", changed(VAE, scaling_factor=0), "vae/config.json has scaling_factor as 0; expected a num"),
    "factor of NaN": (
        "volumes",
        changed(VAE, scaling_factor=NAN),
        "has scaling_factor as nan; expected finite numbers",
    ),
    "infinite factor": ("volumes", changed(VAE, scaling_factor=INFINITE), "has scaling_factor as inf; expected finite"),
    "negative factor": ("texts", changed(VAE, scaling_factor=-0.18), "has scaling_factor as -0.18; expected a number"),
    "equal ends": ("volumes", changed(INDEX, image_range={"0": 1, "1": 1}), "has image_range as {'0': 1, '1': 1}; exp"),
    "one end": ("volumes", changed(INDEX, image_range={"0": 1}), "has image_range as {'0': 1}; expected a lower and a"),
    "reversed ends": ("volumes", changed(INDEX, image_range={"0": 1, "1": 0}), "image_range as {'0': 1, '1': 0}; exp"),
    "ends of text": (
        "masks",
        changed(INDEX, mask_range={"0": "a", "1": "b"}),
        "has mask_range as {'0': 'a', '1': 'b'}",
    ),
    "end of NaN": ("masks", changed(INDEX, mask_range={"0": 0, "1": NAN}), "has mask_range as {'0': 0, '1': nan}; exp"),
    "range of a VAE": ("images", changed(VAE, value_range=[1, 0]), "has value_range as [1, 0]; expected a lower and"),
    "no spacing": ("volumes", changed(INDEX, spacing=0), "has spacing as 0; expected a length in mm, above 0"),
    "negative spacing": ("volumes", changed(INDEX, spacing=-1.5), "has spacing as -1.5; expected a length in mm"),
    "spacing of NaN": ("volumes", changed(INDEX, spacing=NAN), "has spacing as nan; expected finite numbers"),
    "same modalities": ("masks", all_named("modalities", "t1"), "has modalities as"),
    "same labels": ("masks", all_named("id2label", "a"), "has id2label as"),
    "blank label": ("masks", edited(INDEX, lambda i: i["id2label"].update({"0": " "})), "has id2label as"),
    "id of text": ("masks", edited(INDEX, lambda i: i["id2label"].update({"a": "b"})), "has id2label as"),
    "same attributes": ("images", changed(VAE, attributes=["slant", "slant"]), "has attributes as ['slant', 'slant']"),
    "covariance of NaN": (
        "images",
        changed(VAE, latent_moments={**MOMENTS, "covariance": [[NAN, 0, 0], [0, 1, 0], [0, 0, 1]]}),
        "has latent_moments as",
    ),
    "covariance of a line": (
        "images",
        changed(VAE, latent_moments={**MOMENTS, "covariance": [[1, 1, 0], [1, 1, 0], [0, 0, 1]]}),
        "expected a mean and a positive definite covariance",
    ),
    "covariance of text": (
        "images",
        changed(VAE, latent_moments={**MOMENTS, "covariance": [["1", 0, 0], [0, 1, 0], [0, 0, 1]]}),
        "expected a mean and a positive definite covariance",
    ),
    "calibration of text": ("images", changed(VAE, calibration=CALIBRATION), "has calibration as"),
    "reversed limits": ("texts", limits(ranges={"age": [90, 18]}), "has prompt_limits as"),
    "one limit": ("texts", limits(ranges={"age": [90]}), "has prompt_limits as"),
    "limits of text": ("texts", limits(ranges={"age": ["a", "b"]}), "has prompt_limits as"),
    "words of a number": ("texts", limits(words=3), "has prompt_limits as"),
    "words of a list": ("texts", limits(words=["t1"]), "has prompt_limits as"),
    "another limit": ("texts", limits(patient="x"), "has prompt_limits as"),
    "no betas": ("volumes", noise(beta_start=0, beta_end=0), "has noise_schedule as"),
    "negative betas": ("volumes", noise(beta_start=-0.1), "has noise_schedule as"),
    "betas above 1": ("volumes", noise(beta_end=1.5), "has noise_schedule as"),
    "unknown schedule": ("volumes", noise(beta_schedule="x"), "has noise_schedule as"),
    "unknown prediction": ("volumes", noise(prediction_type="x"), "has noise_schedule as"),
    "another entry": ("volumes", noise(patient="x"), "has noise_schedule as"),
    "negative size": (
        "volumes",
        changed(UNET, sample_size=[-4, 4, 4]),
        "has sample_size as [-4, 4, 4]; expected sides",
    ),
    "rescaling of text": ("volumes", noise(rescale_betas_zero_snr="x"), "has noise_schedule as"),
    "no steps": ("volumes", noise(num_train_timesteps=0), "has noise_schedule as"),
    "list of offsets": (
        "volumes",
        changed(SCHEDULER, steps_offset=[1]),
        "has steps_offset as [1]; expected a whole num",
    ),
    "covariate without an end": ("volumes", changed(UNET, covariates=[["age", [0, INFINITE]]]), "has covariates as"),
    "index with a mark": ("images", marked(INDEX), "model_index.json of repository begins with a byte order mark"),
    "configuration with a mark": ("images", marked(VAE), "config.json of vae begins with a byte order mark"),
    "weights in a folder": ("images", folder_in_place, f"{WEIGHTS} is no file, but a folder"),
    "weights nowhere": ("images", link_to_nothing, f"{WEIGHTS} is no file, but a link to nothing"),
    "shards elsewhere": ("images", index_of_shards, "names ../../x.safetensors, which are missing"),
    "no VAE": ("images", changed(INDEX, vae=[None, None]), "model_index.json does not describe a AttributeVAEPipeline"),
    "another VAE": (
        "volumes",
        lambda folder: [shutil.rmtree(folder / "vae"), shutil.copytree(folder.parent / "images/vae", folder / "vae")],
        "has sample_size",
    ),
}


@pytest.mark.parametrize("repository,damage,message", DAMAGES.values(), ids=DAMAGES)
def test_info_and_load_refuse_by_one_rule(
    whole: Path, tmp_path: Path, repository: str, damage: Damage, message: str
) -> None:
    folder = copy(whole / repository, tmp_path / "repository")
    copy(whole / "images", tmp_path / "images")
    damage(folder)
    with pytest.raises(RepositoryError) as error:
        load(folder)
    assert set(repository_issues(folder) + code_issues(folder)) == set(error.value.issues)
    assert message in str(error.value) or "has a key" in str(error.value)


@pytest.mark.parametrize("name", ["images", "volumes", "texts", "masks", "stock"])
def test_whole_repositories_have_no_issue(whole: Path, name: str) -> None:
    assert repository_issues(whole / name) == []
    load(whole / name, **({"trust_remote_code": True} if name == "stock" else {}))


@pytest.mark.parametrize(
    "damage",
    [
        changed(INDEX, spacing=None),
        changed(INDEX, image_range={"0": -1000, "1": 3000.5}),
        noise(beta_start=0.0001, beta_end=0.03, rescale_betas_zero_snr=True),
        noise(trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3),
        changed(INDEX, noise_schedule=None),
        changed(INDEX, vae=[None, None]),
    ],
)
def test_what_is_right_is_kept(whole: Path, tmp_path: Path, damage: Damage) -> None:
    folder = copy(whole / "volumes", tmp_path / "repository")
    damage(folder)
    assert repository_issues(folder) == []


def test_defaults_need_not_be_finite() -> None:
    class Scheduler:
        def __init__(self, lambda_min_clipped: float = -math.inf, rho: float = 7.0) -> None: ...

    assert rule_issues("c", {"lambda_min_clipped": -math.inf, "rho": 7.0}, Scheduler) == []
    assert rule_issues("c", {"lambda_min_clipped": math.inf}, Scheduler)
    assert rule_issues("c", {"latent_moments": MOMENTS, "value_range": [0.0, 1.0]}, AttributeVAE) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("training_config.yaml", "data: [", "training_config.yaml is not valid YAML"),
        ("training_config.yaml", "data: {}", "expected data, model and training"),
        ("README.md", "---\nlicense: [\n---\n# A model\n", "metadata of the card are not valid YAML"),
        ("README.md", "---\nlicense: mit\n# A model\n", "metadata of the card have no end"),
        ("metrics.json", "{", "metrics.json is not valid JSON"),
    ],
)
def test_info_names_damaged_records(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    message: str,
) -> None:
    folder = copy(whole / "images", tmp_path / "repository")
    (folder / name).write_text(content)
    assert message in stops(monkeypatch, capsys, "info", folder)
