"""hub.load: what from_pretrained gives, or a message that names every issue before anything is opened."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.hub_evidence import decoded
from helpers.hub_fixtures import FIRST, copy, decoded_negatives, tiny_pipeline
from helpers.hub_server import HubServer
from huggingface_hub import HfApi

from meddiffusers.hub import RepositoryError, load
from meddiffusers.hub.load import local_folder

CONFIG, WEIGHTS = "vae/config.json", "vae/diffusion_pytorch_model.safetensors"


def push(folder: Path, repo_id: str, private: bool = False) -> None:
    """Push a folder as it is, issues and all."""
    HfApi().create_repo(repo_id, private=private)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


@pytest.fixture
def repository(repositories: Path, tmp_path: Path) -> Path:
    """A whole repository, for a test to damage."""
    return copy(repositories / "first", tmp_path / "repository")


def test_load_gives_what_from_pretrained_gives(repositories: Path) -> None:
    loaded = load(repositories / "first", torch_dtype=torch.float64)
    plain = DiffusionPipeline.from_pretrained(repositories / "first", torch_dtype=torch.float64)
    assert type(loaded) is type(plain)
    assert loaded.name_or_path == str(plain.name_or_path)
    assert loaded.vae.config == plain.vae.config
    assert loaded.dtype is torch.float64
    assert decoded(loaded) == decoded(plain) != decoded(tiny_pipeline(seed=0))


def test_load_from_the_hub_remembers_the_repository(hub: HubServer, repositories: Path) -> None:
    push(repositories / "first", "tester/tiny")
    pipeline = load("tester/tiny")
    assert pipeline.name_or_path == "tester/tiny"
    assert decoded(pipeline) == decoded(tiny_pipeline(seed=0))


def test_load_passes_trust_on(hub: HubServer, repositories: Path) -> None:
    push(repositories / "second", "tester/second")
    for repository in (repositories / "second", "tester/second"):
        assert decoded(load(repository, trust_remote_code=True)) == decoded_negatives(seed=1)
        with pytest.raises(ValueError, match=r"code in meddiffusers_attribute_vae_v2\.py"):
            load(repository)


def test_a_folder_of_the_hub_is_whole_but_for_pickles(hub: HubServer, repository: Path) -> None:
    (repository / "vae" / "old.bin").write_bytes(b"")
    push(repository, "tester/tiny")
    files = {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}
    folder = local_folder("tester/tiny")
    here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert here - {".gitattributes"} == files - {"vae/old.bin"}
    assert decoded(load("tester/tiny")) == decoded(tiny_pipeline(seed=0))


def test_a_training_folder_opens_in_spite_of_its_checkpoints(repository: Path) -> None:
    (repository / "checkpoint-1").mkdir()
    (repository / "checkpoint-1" / "optimizer.pt").write_bytes(b"")
    assert decoded(load(repository)) == decoded(tiny_pipeline(seed=0))


def test_what_was_loaded_once_opens_offline(hub: HubServer, repositories: Path) -> None:
    push(repositories / "first", "tester/tiny")
    load("tester/tiny")
    before = len(hub.requests)
    assert decoded(load("tester/tiny", local_files_only=True)) == decoded(tiny_pipeline(seed=0))
    assert len(hub.requests) == before
    hub.fail_next("/api/models/tester/tiny", 503)
    assert decoded(load("tester/tiny")) == decoded(tiny_pipeline(seed=0))
    with pytest.raises(RepositoryError, match="could not be downloaded, and is not in the cache"):
        load("tester/other", local_files_only=True)


@pytest.mark.slow
def test_a_hub_that_fails_is_named_and_a_broken_download_mended(hub: HubServer, repositories: Path) -> None:
    push(repositories / "first", "tester/tiny")
    hub.fail_next("/api/models/tester/tiny", 500)
    with pytest.raises(RepositoryError, match=r"(?s)could not be downloaded, .* Check the connection and the revision"):
        load("tester/tiny")
    hub.cut_next(WEIGHTS, keep=100)  # the client asks for the rest
    assert decoded(load("tester/tiny")) == decoded(tiny_pipeline(seed=0))


@pytest.mark.parametrize("repository", ["tester/absent", "no such/id/at all", "./absent"])
def test_what_does_not_exist_is_named(hub: HubServer, repository: str) -> None:
    message = (
        rf"{repository} cannot be used:\n  - It is neither a folder nor a repository on the Hub\. Check the spelling"
    )
    with pytest.raises(RepositoryError, match=message):
        load(repository)


def test_an_unknown_revision_is_named(hub: HubServer, repositories: Path) -> None:
    push(repositories / "first", "tester/tiny")
    with pytest.raises(RepositoryError, match=r"It has no revision 'v9'\. Give one of its branches, tags or commits"):
        load("tester/tiny", revision="v9")


def test_a_private_repository_needs_the_token(
    hub: HubServer, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(repositories / "first", "tester/secret", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RepositoryError, match="a private repository needs `token=` or `hf auth login`"):
        load("tester/secret")
    assert decoded(load("tester/secret", token=hub.token)) == decoded(tiny_pipeline(seed=0))


def edited(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def overwritten(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def pickled(folder: Path) -> None:
    torch.save({"encoder.0.bias": torch.zeros(4)}, folder / WEIGHTS)


def binary_weights(folder: Path) -> None:
    pickled(folder)
    (folder / WEIGHTS).rename(folder / "vae/diffusion_pytorch_model.bin")


ISSUES = {
    "truncated weights": (
        lambda folder: os.truncate(folder / WEIGHTS, 900),
        rf"{WEIGHTS} is damaged or cut short \(900 ",
    ),
    "empty weights": (overwritten(WEIGHTS, b""), rf"{WEIGHTS} is damaged or cut short \(0 bytes"),
    "zipped pickle": (pickled, rf"{WEIGHTS} is named \.safetensors but is a pickle\. Convert it"),
    "plain pickle": (overwritten(WEIGHTS, pickle.dumps({})), rf"{WEIGHTS} is named \.safetensors but is a pickle\."),
    "pickled weights": (
        binary_weights,
        r"vae has no \.safetensors weights\. Pickled weights are not loaded: convert them",
    ),
    "misspelt key": (
        edited(CONFIG, lambda config: config.update(latent_dims=4)),
        r"vae/config\.json has a key 'latent_dims', which AttributeVAE does not take\. Did you mean 'latent_dim'\?",
    ),
    "unknown key": (
        edited(CONFIG, lambda config: config.update(zzz=1)),
        "has a key 'zzz', .* Remove it, or install the",
    ),
    "folder missing": (
        lambda folder: shutil.rmtree(folder / "vae"),
        "names a component 'vae', but there is no folder of that name",
    ),
    "way out": (
        edited("model_index.json", lambda index: index.update({"../x": [FIRST, "AttributeVAE"]})),
        r"names a component '\.\./x', which lies outside the repository",
    ),
    "way down": (
        edited("model_index.json", lambda index: index.update({"a/b": [FIRST, "AttributeVAE"]})),
        "names a component 'a/b', which lies outside",
    ),
    "broken index": (overwritten("model_index.json", b"{"), r"model_index\.json of .* is not valid JSON .* Restore it"),
    "index of a list": (
        overwritten("model_index.json", b"[]"),
        r"model_index\.json of .* holds a list, expected an obj",
    ),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), r"No model_index\.json in .*save_pretrained"),
    "broken configuration": (overwritten(CONFIG, b"{,}"), r"config\.json of vae is not valid JSON"),
}


@pytest.mark.parametrize("place", ["folder", "hub"])
@pytest.mark.parametrize("damage,message", ISSUES.values(), ids=ISSUES)
def test_an_issue_is_named_before_anything_is_opened(
    hub: HubServer,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], Any],
    message: str,
    place: str,
) -> None:
    damage(repository)
    if place == "hub":
        push(repository, "tester/tiny")
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("it was opened"))
    where: str | Path = repository if place == "folder" else "tester/tiny"
    with pytest.raises(RepositoryError, match=message) as caught:
        load(where)
    assert re.match(rf"{re.escape(str(where))} cannot be used:\n  - ", str(caught.value))


def test_a_component_behind_a_link_leads_out(repository: Path, tmp_path: Path) -> None:
    (repository / "vae").rename(tmp_path / "elsewhere")
    (repository / "vae").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError, match="'vae', which lies outside the repository"):
        load(repository)


def test_all_issues_are_named_at_once(repository: Path) -> None:
    os.truncate(repository / WEIGHTS, 100)
    edited(CONFIG, lambda config: config.update(latentdim=4, zzz=5))(repository)
    with pytest.raises(RepositoryError) as caught:
        load(repository)
    assert len(caught.value.issues) == 3
