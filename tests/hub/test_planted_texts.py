"""Identifiers planted in settings, tokenizers and adapters of shipped repositories reach no Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hub_fixtures import copy
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from meddiffusers.hub import RepositoryError, publish
from meddiffusers.hub.checks import ADAPTER, adapter_issues
from meddiffusers.hub.publication import publication_issues

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
TEXT, MASK, LORA = "text-to-mr-brain", "seg-ddpm-brain", "lora-lowfield"
INDEX, ENCODER, TOKENIZER = "model_index.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"
VOCABULARY = "tokenizer/tokenizer.json"
REPLACED = {"type": "Replace", "pattern": {"String": "Hans Mueller"}, "content": "x"}
PREFIX = {"continuing_subword_prefix": "Mueller"}
ADDED = {
    "id": 167,
    "content": "Mueller",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": True,
    "special": False,
}
DICOM = torch.tensor(list(bytes(128) + b"DICMPatientName Mueller^Hans"), dtype=torch.uint8)
Plant = Callable[[Path], Any]


@lru_cache
def issues_before(repository: str) -> set[str]:
    return set(publication_issues(CHECKPOINTS / repository))


def edited(name: str, change: Callable[[Any], Any]) -> Plant:
    def plant(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return plant


def written(name: str, text: str) -> Plant:
    return lambda folder: (folder / name).write_text(text)


def weights(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Plant:
    def plant(folder: Path) -> None:
        with safe_open(folder / name, "pt") as file:
            metadata = file.metadata()
        held = load_file(folder / name)
        change(held)
        save_file(held, folder / name, metadata)

    return plant


def replaced(name: str, old: str, new: str) -> Plant:
    def plant(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return plant


def setting(**settings: Any) -> Plant:
    """Settings of an adapter, in the metadata of its weights."""

    def plant(folder: Path) -> None:
        with safe_open(folder / ADAPTER, "pt") as file:
            metadata = file.metadata()
        content = json.loads(metadata["lora_adapter_metadata"])
        content |= {f"unet.{name}": value for name, value in settings.items()}
        metadata["lora_adapter_metadata"] = json.dumps(content)
        save_file(load_file(folder / ADAPTER), folder / ADAPTER, metadata)

    return plant


def added(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["Mueller^Hans PatientID 1234567"] = len(content["model"]["vocab"])


PLANTED: dict[str, tuple[str, Plant]] = {
    "label": (MASK, edited(INDEX, lambda index: index["id2label"].update({"0": "Mueller Hans 12345"}))),
    "modality": (MASK, edited(INDEX, lambda index: index["modalities"].update({"0": "PatientID 1234567"}))),
    "default values": (MASK, edited(INDEX, lambda index: index.update(_use_default_values=["Hans Mueller"]))),
    "version": (MASK, edited(INDEX, lambda index: index.update(_diffusers_version="0.1.Mueller"))),
    "local version": (MASK, edited(INDEX, lambda index: index.update(_diffusers_version="0.35.1+Mueller_1957"))),
    "key of the noise": (MASK, edited(INDEX, lambda index: index["noise_schedule"].update(hans="Mueller"))),
    "words of prompts": (TEXT, edited(INDEX, lambda index: index["prompt_limits"].update(words="t1 mueller hans"))),
    "key of the limits": (TEXT, edited(INDEX, lambda index: index["prompt_limits"].update(patient="Hans Mueller"))),
    "range of prompts": (TEXT, edited(INDEX, lambda index: index["prompt_limits"]["ranges"].update(mueller=[0, 1]))),
    "label of transformers": (TEXT, edited(ENCODER, lambda config: config.update(id2label={"0": "Mueller Hans"}))),
    "version of transformers": (TEXT, edited(ENCODER, lambda config: config.update(transformers_version="5.Hans"))),
    "architecture": (TEXT, edited(ENCODER, lambda config: config.update(architectures=["MuellerModel"]))),
    "special token": (TEXT, edited(TOKENIZER, lambda config: config.update(unk_token="Mueller Hans"))),
    "added token": (TEXT, written("tokenizer/added_tokens.json", '{"Mueller Hans 1957-03-12": 3}')),
    "vocabulary": (TEXT, edited(VOCABULARY, added)),
    "list of tokens": (TEXT, written("tokenizer/vocab.txt", "a\nmueller^hans\n")),
    "UID as a token": (TEXT, written("tokenizer/vocab.txt", "a\n1.2.840.113619.2.5.17\n")),
    "number as a token": (TEXT, written("tokenizer/vocab.txt", "a\n1234567\n")),
    "words as a token": (TEXT, written("tokenizer/vocab.txt", "a\nPatientID: 1\n")),
    "hardware": (TEXT, edited("metrics.json", lambda r: r["run"].update(hardware="Station MRC35012 Charite"))),
    "caption": (TEXT, edited("metrics.json", lambda r: r["figures"].update({"Slices of Hans": "figures/0.png"}))),
    "data set": (TEXT, edited("metrics.json", lambda r: r["metrics"][0].update(dataset="mueller"))),
    "number in details": (TEXT, edited("metrics.json", lambda r: r["details"].update({"case": "4711123"}))),
    "class of a tokenizer": (TEXT, edited(TOKENIZER, lambda config: config.update(tokenizer_class="HansMueller"))),
    "normalizer": (TEXT, edited(VOCABULARY, lambda content: content.update(normalizer=REPLACED))),
    "prefix of tokens": (TEXT, edited(VOCABULARY, lambda content: content["model"].update(PREFIX))),
    "added special token": (TEXT, edited(VOCABULARY, lambda content: content["added_tokens"].append(ADDED))),
    "seed of text": (TEXT, edited("metrics.json", lambda r: r["run"].update(seed="hans"))),
    "name of a figure": (TEXT, edited("metrics.json", lambda r: r["figures"].update({"KID": "figures/mueller.png"}))),
    "date in the record": (MASK, replaced("training_config.yaml", "dataset_name: phantom", "dataset_name: 1957-03-12")),
    "data set in the record": (
        MASK,
        replaced("training_config.yaml", "dataset_name: phantom", "dataset_name: mueller"),
    ),
    "name of a tensor": (
        TEXT,
        weights("text_encoder/model.safetensors", lambda held: held.update(Hans=torch.zeros(1))),
    ),
    "bytes in the weights": (TEXT, weights("text_encoder/model.safetensors", lambda held: held.update(a=DICOM))),
    "notice": (MASK, written("NOTICE", "Patient Hans Mueller, DOB 12.03.1957\n")),
    "control characters": (MASK, written("LICENSE", "Apache\0\0")),
    "setting of an adapter": (LORA, setting(revision="PatientID")),
    "base of an adapter": (LORA, setting(base_model_name_or_path="/home/hans/model")),
    "relative base": (LORA, setting(base_model_name_or_path="mueller")),
    "targets of an adapter": (LORA, setting(target_modules=["to_q", "Mueller Hans"])),
}
ADAPTERS: dict[str, tuple[Plant, str]] = {
    "bytes": (
        weights(ADAPTER, lambda held: held.update({min(held): DICOM})),
        "holds other than floating-point numbers (unet.down",
    ),
    "strange name": (
        weights(ADAPTER, lambda held: held.update({"unet.lora_Mueller_1957": torch.zeros(1)})),
        "holds weights of no adapter (unet.lora_Mueller_1957)",
    ),
    "strange part": (
        weights(ADAPTER, lambda held: held.update({"unet.Mueller.lora_A.weight": torch.zeros(2, 2)})),
        "holds weights for a part that no network has (unet.Mueller.lora_A.weight)",
    ),
    "strange component": (
        weights(ADAPTER, lambda held: held.update({"hans.conv1.lora_A.weight": torch.zeros(2, 2)})),
        "holds weights of no adapter (hans.",
    ),
    "half": (weights(ADAPTER, lambda held: held.pop(min(held))), "holds half of an adapter"),
    "other half": (weights(ADAPTER, lambda held: held.pop(sorted(held)[1])), "holds half of an adapter"),
    "other rank": (
        weights(ADAPTER, lambda held: held.update({min(held): held[min(held)][:1].contiguous()})),
        "which have no common rank",
    ),
    "one number": (weights(ADAPTER, lambda held: held.update({min(held): torch.zeros(8)})), "no common rank"),
}


@pytest.mark.parametrize("repository,plant", PLANTED.values(), ids=PLANTED)
@pytest.mark.slow
def test_what_is_planted_is_refused(tmp_path: Path, repository: str, plant: Plant) -> None:
    folder = copy(CHECKPOINTS / repository, tmp_path / "repository")
    plant(folder)
    assert set(publication_issues(folder)) - issues_before(repository)


@pytest.mark.parametrize("plant,message", ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_is_pairs_of_matrices(tmp_path: Path, plant: Plant, message: str) -> None:
    folder = copy(CHECKPOINTS / LORA, tmp_path / "repository")
    assert adapter_issues(folder) == []
    plant(folder)
    assert message in adapter_issues(folder)[0]


def test_names_are_confirmed_by_whoever_publishes(tmp_path: Path) -> None:
    folder = copy(CHECKPOINTS / MASK, tmp_path / "repository")
    edited(INDEX, lambda index: index["id2label"].update({"1": "Cobb-Lippman cyst"}))(folder)
    (issue,) = [issue for issue in publication_issues(folder) if issue.startswith(INDEX)]
    assert "holds 'Lippman', which could name a person" in issue and "names=[…] (--name)" in issue
    assert not [each for each in publication_issues(folder, names=["Lippman cyst"]) if each.startswith(INDEX)]


@pytest.mark.parametrize("given", ["commit_message", "tag", "revision"])
def test_what_goes_with_the_files_is_checked(given: str) -> None:
    with pytest.raises(RepositoryError, match=rf"The {given} has a person's name as DICOM writes it"):
        publish(CHECKPOINTS / "ar-vae-mnist", "tester/tiny", **{given: "scans of Mueller^Hans"})  # type: ignore[arg-type]
