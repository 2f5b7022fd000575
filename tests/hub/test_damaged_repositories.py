"""Damaged repositories: `info` and `load` name the file and the cause, or the repository is as good as whole."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from helpers.command_line import run, stops
from helpers.hub_fixtures import FACTS, REPORT, copy, stock_pipeline, tiny_pipeline
from helpers.small_latent_diffusion import of_volumes
from helpers.small_text_to_mr import small_text_to_mr
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from meddiffusers.hub import RepositoryError, load, write_repository
from meddiffusers.hub.checks import code_issues, repository_issues
from meddiffusers.hub.components import component_issues
from meddiffusers.hub.describe import describe

SAMPLE, SLOW_SAMPLE, SEED = 60, 25, 7
VALUES: list[Any] = [None, True, -1, 0, 10**9, 1.5, "x", "", [], {}, [1, 2], {"a": 1}, [None]]
CONTENTS = {"empty": b"", "list": b"[]", "null": b"null", "deep": b"[" * 100_000, "binary": b"\xff\xfe\x00"}
VAE, UNET, WEIGHTS = "vae/config.json", "unet/config.json", "diffusion_pytorch_model.safetensors"
TEXTS = (".json", ".md", ".safetensors")
Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole repositories, not to be changed: of images, volumes, texts, a stock pipeline, and weights in two files."""
    folder = tmp_path_factory.mktemp("whole")
    write_repository(tiny_pipeline(), REPORT, FACTS, folder / "images")
    of_volumes().save_pretrained(folder / "volumes")
    small_text_to_mr().save_pretrained(folder / "texts")
    stock_pipeline(DDIMScheduler()).save_pretrained(folder / "stock")
    of_volumes().save_pretrained(folder / "shards", max_shard_size="30KB")
    return folder


def written(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def piped(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def edited(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def changed(name: str, **entries: Any) -> Damage:
    return edited(name, lambda content: content.update(entries))


def weights(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        held = load_file(folder / name)
        change(held)
        save_file(held, folder / name, {"format": "pt"})

    return damage


def emptied(held: dict[str, torch.Tensor]) -> None:
    del held[min(held)]


def lengthened(held: dict[str, torch.Tensor]) -> None:
    held[min(held)] = torch.cat([held[min(held)]] * 2)


def one_shard(folder: Path) -> None:
    next((folder / "vae").glob("*-00001-of-*.safetensors")).unlink()


BERT = "text_encoder/model.safetensors"
DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "index cut": ("images", cut("model_index.json"), "model_index.json of repository is not valid JSON"),
    "index deep": ("images", written("model_index.json", b"[" * 100_000), "is nested more than 64 levels"),
    "index a pipe": ("images", piped("model_index.json"), "model_index.json of repository is a pipe"),
    "no pipeline": ("images", changed("model_index.json", _class_name=None), "has the _class_name None"),
    "pipeline of a number": ("images", changed("model_index.json", _class_name=3), "has the _class_name 3"),
    "unknown pipeline": (
        "images",
        changed("model_index.json", _class_name="AttributeVAEPipelin"),
        "names the pipeline AttributeVAEPipelin, which is in no installed library",
    ),
    "component missing": (
        "images",
        edited("model_index.json", lambda index: index.pop("vae")),
        "model_index.json lacks 'vae', which AttributeVAEPipeline needs",
    ),
    "part missing that may be None": (
        "volumes",
        edited("model_index.json", lambda index: index.pop("vae")),
        "model_index.json lacks 'vae', which LatentDiffusionPipeline needs",
    ),
    "component renamed": (
        "images",
        edited("model_index.json", lambda index: index.update(vea=index.pop("vae"))),
        "has a key 'vea', which AttributeVAEPipeline does not take. Did you mean 'vae'",
    ),
    "component of text": (
        "images",
        changed("model_index.json", vae="x"),
        "has 'vae' as 'x', expected [library, class]",
    ),
    "component of one": ("images", changed("model_index.json", vae=["x"]), "expected [library, class]"),
    "component of numbers": ("images", changed("model_index.json", vae=[1, 2]), "expected [library, class]"),
    "unknown class": (
        "stock",
        changed("model_index.json", unet=["diffusers", "UNet2DModle"]),
        "names 'unet' as UNet2DModle of diffusers, which is in no installed library. Did you mean UNet2DModel?",
    ),
    "unknown library": ("stock", changed("model_index.json", unet=["os", "system"]), "'unet' as system of os, which"),
    "setting missing": (
        "volumes",
        edited("model_index.json", lambda index: index.pop("image_range")),
        "model_index.json lacks 'image_range'",
    ),
    "setting of a number": (
        "volumes",
        changed("model_index.json", image_range=1),
        "model_index.json has image_range as 1",
    ),
    "configuration a pipe": ("images", piped(VAE), "vae/config.json is a pipe"),
    "configuration missing": ("images", without(VAE), "vae/config.json is missing"),
    "number of text": ("images", changed(VAE, latent_dim="3"), "has latent_dim as '3'; expected a whole number"),
    "fraction": ("images", changed(VAE, latent_dim=2.5), "has latent_dim as 2.5; expected a whole number"),
    "list of text": ("images", changed(VAE, block_out_channels=["a"]), "has block_out_channels as ['a']"),
    "endless network": (
        "volumes",
        changed(UNET, num_fourier_features=10**9),
        "unet/config.json has num_fourier_features as 1000000000; expected at most 1000",
    ),
    "endless encoder": (
        "texts",
        changed("text_encoder/config.json", num_hidden_layers=10**9),
        "text_encoder/config.json has num_hidden_layers as 1000000000; expected at most 1000",
    ),
    "null": ("images", changed(VAE, hidden_dim=None), "has hidden_dim as None; expected a whole number"),
    "what cannot be": (
        "images",
        changed(VAE, sample_size=7),
        "vae/config.json does not describe a AttributeVAE: sample_",
    ),
    "version of a list": (
        "images",
        changed(VAE, _diffusers_version=[1]),
        "has _diffusers_version as [1]; expected text",
    ),
    "key missing": (
        "volumes",
        edited("vae/config.json", lambda config: config.pop("scaling_factor")),
        "vae/config.json lacks 'scaling_factor'",
    ),
    "schedule's key missing": (
        "stock",
        edited("scheduler/scheduler_config.json", lambda config: config.pop("prediction_type")),
        "scheduler/scheduler_config.json lacks 'prediction_type'",
    ),
    "schedule's key renamed": (
        "stock",
        edited("scheduler/scheduler_config.json", lambda config: config.update(beta_edn=config.pop("beta_end"))),
        "has a key 'beta_edn', which DDIMScheduler does not take. Did you mean 'beta_end'?",
    ),
    "schedule of nothing": (
        "stock",
        changed("scheduler/scheduler_config.json", prediction_type="noise"),
        "has prediction_type as 'noise'; expected one of epsilon",
    ),
    "endless schedule": (
        "stock",
        changed("scheduler/scheduler_config.json", num_train_timesteps=10**12),
        "num_train_timesteps as 1000000000000; expected 1 to 1000000",
    ),
    "schedule outside 0 to 1": (
        "stock",
        changed("scheduler/scheduler_config.json", beta_end=1.5),
        "scheduler_config.json gives betas outside 0 to 1",
    ),
    "schedule missing": ("stock", without("scheduler/scheduler_config.json"), "scheduler_config.json is missing"),
    "range of covariates": (
        "volumes",
        changed(UNET, covariates=[["age", [80, 20]], ["sex", ["F", "M"]]]),
        "unet/config.json does not describe a ConditionedUNet: age=[80, 20]; expected",
    ),
    "weights of NaN": (
        "images",
        weights(f"vae/{WEIGHTS}", lambda held: held[min(held)].fill_(torch.nan)),
        f"vae/{WEIGHTS} holds NaN or infinite values in ",
    ),
    "weights missing": ("images", weights(f"vae/{WEIGHTS}", emptied), f"vae/{WEIGHTS} lacks weights of AttributeVAE: "),
    "weights left over": (
        "images",
        weights(f"vae/{WEIGHTS}", lambda held: held.update(more=torch.zeros(1))),
        "holds, beside those of the network, weights of AttributeVAE: more",
    ),
    "weights of another shape": ("images", weights(f"vae/{WEIGHTS}", lengthened), "but the configuration makes it ["),
    "weights of another type": (
        "images",
        weights(f"vae/{WEIGHTS}", lambda held: held.update({min(held): held[min(held)].to(torch.int64)})),
        "as I64, expected floating-point numbers",
    ),
    "weights a pipe": ("images", piped(f"vae/{WEIGHTS}"), f"vae/{WEIGHTS} is a pipe"),
    "no weights in transformers": ("texts", weights(BERT, emptied), f"{BERT} lacks weights of BertModel: "),
    "shape in transformers": ("texts", weights(BERT, lengthened), f"{BERT} holds "),
    "configuration of transformers": (
        "texts",
        changed("text_encoder/config.json", hidden_size="x"),
        "text_encoder/config",
    ),
    "a shard missing": ("shards", one_shard, "diffusion_pytorch_model-00001-of-"),
    "a shard cut": (
        "shards",
        lambda f: cut(str(next(f.glob("vae/*-00001*")).relative_to(f)))(f),
        "is damaged or cut sh",
    ),
    "no index of shards": (
        "shards",
        without(f"vae/{WEIGHTS}.index.json"),
        ".index.json is missing, which says what is",
    ),
    "index of shards cut": ("shards", cut(f"vae/{WEIGHTS}.index.json"), ".index.json of vae is not valid JSON"),
    "index of no files": ("shards", changed(f"vae/{WEIGHTS}.index.json", weight_map=[1]), "has no weight_map of files"),
    "tokenizer without words": ("texts", without("tokenizer/tokenizer.json"), "so no text would be understood"),
    "tokenizer cut": ("texts", cut("tokenizer/tokenizer.json"), "tokenizer.json of tokenizer is not valid JSON"),
    "tokenizer of nothing": (
        "texts",
        written("tokenizer/tokenizer.json", b"{}"),
        "tokenizer does not hold a BertTokenizer",
    ),
    "tokenizer a pipe": ("texts", piped("tokenizer/tokenizer.json"), "tokenizer/tokenizer.json is a pipe"),
}


@pytest.mark.parametrize("repository,damage,message", DAMAGES.values(), ids=DAMAGES)
def test_the_damage_is_named_by_info_and_load(
    whole: Path, tmp_path: Path, repository: str, damage: Damage, message: str
) -> None:
    folder = copy(whole / repository, tmp_path / "repository")
    damage(folder)
    with pytest.raises(RepositoryError) as error:
        load(folder)
    assert message in str(error.value)
    assert set(repository_issues(folder) + code_issues(folder)) == set(error.value.issues)


@pytest.mark.parametrize("name", ["images", "volumes", "texts", "stock", "shards"])
def test_a_whole_repository_has_no_issue(whole: Path, name: str) -> None:
    assert repository_issues(whole / name) + code_issues(whole / name) == []


@pytest.mark.parametrize("names", ["tied", "with a prefix", "of TensorFlow"])
def test_weights_under_other_names_that_transformers_reads_are_no_issue(tmp_path: Path, names: str) -> None:
    kind = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    t5 = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    model: Any = T5EncoderModel(t5) if names == "tied" else BertModel(BertConfig(**kind))
    model.save_pretrained(tmp_path / "encoder")
    held = load_file(tmp_path / "encoder" / "model.safetensors")
    if names == "with a prefix":
        held = {f"bert.{name}": weight for name, weight in held.items()}
    elif names == "of TensorFlow":
        held = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): weight for name, weight in held.items()}
    save_file(held, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    assert component_issues(tmp_path / "encoder", type(model)) == []
    del held[min(held)]
    save_file(held, tmp_path / "encoder" / "model.safetensors", {"format": "pt"})
    assert "lacks weights of" in component_issues(tmp_path / "encoder", type(model))[0]


METRICS = {
    "cut": (cut("metrics.json"), "metrics.json is not valid JSON"),
    "list": (written("metrics.json", b"[]"), "metrics.json holds a list"),
    "no metrics": (edited("metrics.json", lambda report: report.pop("metrics")), "does not hold metrics, run, details"),
    "metric of a number": (edited("metrics.json", lambda report: report.update(metrics=[1])), "has the metric 1; exp"),
    "value of text": (
        edited("metrics.json", lambda r: r["metrics"][0].update(value="x")),
        "has the metric {'key': 'scc'",
    ),
    "figure elsewhere": (
        edited("metrics.json", lambda r: r["figures"].update(a="../x.png")),
        "names the figure ../x.png",
    ),
    "card of binary": (written("README.md", b"---\n\xff\n---\n"), "README.md is not text in UTF-8"),
    "metadata of a list": (written("README.md", b"---\n[1, 2]\n---\n# A model\n"), "are no names and values"),
}


@pytest.mark.parametrize("damage,message", METRICS.values(), ids=METRICS)
def test_a_damaged_card_or_metric_is_named_by_info(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Damage,
    message: str,
) -> None:
    folder = copy(whole / "images", tmp_path / "repository")
    damage(folder)
    assert message in stops(monkeypatch, capsys, "info", folder)


def test_aliases_in_a_card_cost_no_memory(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(whole / "images", tmp_path / "repository")
    rows = [
        f"{new}: &{new} [" + ", ".join([f"*{old}"] * 9) + "]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (folder / "README.md").write_text("\n".join(["---", "a: &a [x]", *rows, "license: *i", "---", "# A model"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "line 2: aliases" in stops(monkeypatch, capsys, "info", folder)
    assert "aliases" in run("card", "lint", folder, status=1).output
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_what_needs_code_of_the_repository_is_not_called_sound(repositories: Path) -> None:
    output = run("info", repositories / "second", status=1).output
    assert "issue: vae is the class AttributeVAE of no installed library: it needs the code in" in output
    assert "AttributeVAEPipeline" in run("info", repositories / "first").output


def test_an_adapter_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"")
    with pytest.raises(RepositoryError, match=r"only an adapter\. Load its base model, then call load_lora_weights"):
        load(tmp_path)


# A sample of all mutations


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield (*place, key)
        yield from places(value, (*place, key))


def at(place: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def edit(content: Any) -> None:
        for key in place[:-1]:
            content = content[key]
        change(content, place[-1])

    return edit


def mutations(folder: Path) -> Iterator[tuple[str, Damage]]:
    """Every file cut, emptied, replaced, missing or a pipe; every place of JSON removed, renamed or of another type."""
    for file in sorted(path for path in folder.rglob("*") if path.suffix in TEXTS):
        name = str(file.relative_to(folder))
        yield f"{name} cut", cut(name)
        yield f"{name} missing", without(name)
        yield f"{name} a pipe", piped(name)
        for kind, content in CONTENTS.items():
            yield f"{name} {kind}", written(name, content)
        for place in places(json.loads(file.read_text())) if file.suffix == ".json" else ():
            yield f"{name} without {place}", edited(name, at(place, lambda part, key: part.pop(key)))
            if isinstance(place[-1], str):
                rename = at(place, lambda part, key: part.update({f"{key}e": part.pop(key)}))
                yield f"{name} renamed {place}", edited(name, rename)
            for value in VALUES:
                replace = at(place, lambda part, key, value=value: part.__setitem__(key, value))
                yield f"{name} {place} {value!r}", edited(name, replace)


def problem(folder: Path) -> str | None:
    """What is wrong with the way in which a damaged repository is refused or opened."""
    try:
        issues = repository_issues(folder) + code_issues(folder)
        if not issues:
            try:
                about = describe(folder)
                assert about.inputs is not None
            except ValueError:
                pass  # a card or metrics, which loading does not read
            load(folder)
            return None
        load(folder)
    except RepositoryError:
        return None
    except Exception as error:
        return repr(error)
    return "it was opened in spite of its issues"


@pytest.mark.parametrize(
    "name,count",
    [
        ("images", SAMPLE),
        pytest.param("volumes", SLOW_SAMPLE, marks=pytest.mark.slow),
        pytest.param("texts", SLOW_SAMPLE, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_no_mutation_ends_in_another_error(whole: Path, tmp_path: Path, name: str, count: int) -> None:
    found = {}
    for label, damage in random.Random(SEED).sample(list(mutations(whole / name)), count):
        folder = copy(whole / name, tmp_path / "repository")
        damage(folder)
        if text := problem(folder):
            found[label] = text
        shutil.rmtree(folder)
    assert found == {}
