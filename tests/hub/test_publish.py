"""What reaches the Hub, what never does, and that a repository on disk is replaced whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from helpers.hub_evidence import decoded, tree
from helpers.hub_fixtures import CHECKS, FACTS, PIPELINE, REPORT, SAVING, copy, stock_pipeline, tiny_pipeline
from helpers.hub_server import HubServer
from huggingface_hub.errors import HfHubHTTPError
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file

from meddiffusers.evaluation.report import Report
from meddiffusers.hub import RepositoryError, load, publish, write_repository
from meddiffusers.hub.card import write_card

CARD = str(write_card(FACTS, replace(REPORT, figures={})))
WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


def published(hub: HubServer, repo_id: str = "tester/tiny", revision: str = "main") -> dict[str, bytes]:
    """The files of a revision, but for the one that a Hub adds itself."""
    return {name: data for name, data in hub.repositories[repo_id].files(revision).items() if name != ".gitattributes"}


@pytest.fixture
def repository(repositories: Path, tmp_path: Path) -> Path:
    """A whole repository, for a test to damage."""
    return copy(repositories / "first", tmp_path / "repository")


def test_a_folder_is_published_as_it_is(hub: HubServer, repositories: Path) -> None:
    address = publish(repositories / "first", "tester/tiny")
    assert published(hub) == tree(repositories / "first")
    assert address == f"{hub.url}/tester/tiny/commit/{hub.repositories['tester/tiny'].resolve('main')}"


def test_a_pipeline_is_published_with_its_code_and_card(hub: HubServer, tmp_path: Path) -> None:
    tiny_pipeline(seed=3).save_pretrained(tmp_path)
    publish(tiny_pipeline(seed=3), "tester/tiny", card=CARD)
    assert published(hub) == tree(tmp_path) | {"README.md": CARD.encode()}
    assert decoded(load("tester/tiny")) == decoded(tiny_pipeline(seed=3))


def test_the_call_on_the_card_runs(hub: HubServer) -> None:
    publish(tiny_pipeline(), "tester/tiny", card=CARD)
    code = CARD.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    assert [image.size for image in names["images"]] == [(8, 8)] * 4
    assert decoded(names["pipe"]) == decoded(tiny_pipeline())


@pytest.mark.slow
def test_a_card_may_be_text_a_file_or_an_object(hub: HubServer, tmp_path: Path) -> None:
    file = tmp_path / "card.md"
    file.write_text(CARD, encoding="utf-8")
    for card in (CARD, file, str(file), write_card(FACTS, replace(REPORT, figures={}))):
        publish(tiny_pipeline(), "tester/tiny", card=card)
        assert published(hub)["README.md"] == CARD.encode()


@pytest.mark.slow
def test_a_private_repository_opens_with_the_token_alone(
    hub: HubServer, repositories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repositories / "first", "tester/secret", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RepositoryError, match="a private repository needs `token=`"):
        load("tester/secret")
    with pytest.raises(OSError, match="Cannot load model tester/secret"):
        DiffusionPipeline.from_pretrained("tester/secret")
    assert decoded(load("tester/secret", token=hub.token)) == decoded(tiny_pipeline(seed=0))
    assert decoded(DiffusionPipeline.from_pretrained("tester/secret", token=hub.token)) == decoded(
        tiny_pipeline(seed=0)
    )


def test_what_shall_be_private_is_not_pushed_to_a_public_repository(hub: HubServer, repositories: Path) -> None:
    hub_before = publish(repositories / "first", "tester/tiny")
    with pytest.raises(RepositoryError, match="public already"):
        publish(tiny_pipeline(seed=1), "tester/tiny", card=CARD, private=True)
    assert hub_before.endswith(hub.repositories["tester/tiny"].resolve("main"))


@pytest.mark.slow
def test_tags_branches_and_commits_pin_what_they_name(hub: HubServer) -> None:
    pipelines = {name: tiny_pipeline(seed) for seed, name in enumerate(("v1", "main", "trial"))}
    commit = publish(pipelines["v1"], "tester/tiny", card=CARD, tag="v1").rpartition("/")[2]
    publish(pipelines["main"], "tester/tiny", card=CARD)
    publish(pipelines["trial"], "tester/tiny", card=CARD, revision="trial")
    for name, pipeline in pipelines.items():
        assert decoded(load("tester/tiny", revision=name)) == decoded(pipeline)
        assert decoded(DiffusionPipeline.from_pretrained("tester/tiny", revision=name)) == decoded(pipeline)
    assert decoded(load("tester/tiny", revision=commit)) == decoded(pipelines["v1"])
    assert decoded(load("tester/tiny")) == decoded(pipelines["main"])


def test_the_newest_revision_keeps_nothing_of_the_one_before(hub: HubServer, repository: Path) -> None:
    (repository / "LICENSE").write_text("Apache-2.0")
    publish(repository, "tester/tiny", tag="old")
    publish(tiny_pipeline(), "tester/tiny", card=CARD)
    assert set(published(hub)) == {*published(hub, revision="old")} - {
        "LICENSE",
        "metrics.json",
        "figures/0.png",
        "figures/1.png",
    }


def test_the_rest_of_a_training_run_stays_at_home(hub: HubServer, repository: Path, repositories: Path) -> None:
    for name in (
        "checkpoint-62/optimizer.pt",
        "checkpoint-62/vae/config.json",
        "logs/events.out.tfevents",
        "log.jsonl",
        "validation/step-30/reconstruction.png",
        "repository/model_index.json",
        ".pipeline.partial/model_index.json",
        "__pycache__/x.pyc",
    ):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("{}")
    publish(repository, "tester/tiny")
    assert published(hub) == tree(repositories / "first")


def test_no_published_file_tells_where_it_came_from(hub: HubServer, tmp_path: Path) -> None:
    stock_pipeline(DDIMScheduler()).save_pretrained(tmp_path / "saved")
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "saved")
    pipeline.save_pretrained(tmp_path / "again")
    tokenizer = {"unk_token": "ü", "added_tokens_decoder": {"_name_or_path": str(tmp_path)}}
    (tmp_path / "again/unet/tokenizer_config.json").write_text(json.dumps(tokenizer))

    def telling(files: dict[str, bytes]) -> list[str]:
        return [name for name, data in files.items() if str(tmp_path).encode() in data]

    assert telling(tree(tmp_path / "again")) == ["model_index.json", "unet/config.json", "unet/tokenizer_config.json"]
    publish(tmp_path / "again", "tester/tiny", card=CARD)
    files = published(hub)
    assert telling(files) == []
    kept = {"unk_token": "ü", "added_tokens_decoder": {}}
    assert json.loads(files.pop("unet/tokenizer_config.json")) == kept
    assert files == tree(tmp_path / "saved") | {"README.md": CARD.encode()}


def live_adapter(pipeline: Any) -> None:
    inject_adapter_in_model(LoraConfig(target_modules=["encoder.0", "decoder.0"], r=2), pipeline.vae)


def test_a_live_adapter_is_refused(hub: HubServer, tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    live_adapter(pipeline)
    with pytest.raises(RepositoryError, match=r"vae has a live adapter\. Fuse it or call unload_lora_weights"):
        publish(pipeline, "tester/tiny", card=CARD)
    with pytest.raises(RepositoryError, match="vae has a live adapter"):
        write_repository(pipeline, REPORT, FACTS, tmp_path / "repository")
    assert hub.requests == []
    assert list(tmp_path.iterdir()) == []


def adapter_saved_in_the_base(folder: Path) -> None:
    pipeline = tiny_pipeline()
    live_adapter(pipeline)
    pipeline.save_pretrained(folder)


def adapter_keys_alone(folder: Path) -> None:
    weights = tiny_pipeline().vae.state_dict() | {"encoder.0.lora_A.default.weight": torch.zeros(2)}
    save_file(weights, folder / WEIGHTS)


def dicom(folder: Path) -> None:
    (folder / "figures" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(8))


def written(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def appended(name: str, text: str) -> Callable[[Path], None]:
    def append(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return append


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 500)


REFUSED = {
    "no card": (without("README.md"), r"There is no card \(README\.md\)"),
    "hole in the card": (appended("README.md", "\n[More Information Needed]\n"), "Card: It has a hole: '.More Info"),
    "image missing": (without("figures/1.png"), r"Card: Image figures/1\.png is not in the repository"),
    "adapter saved in the base": (adapter_saved_in_the_base, "holds adapter weights"),
    "adapter keys alone": (adapter_keys_alone, r"holds adapter weights \(encoder\.0\.lora_A\.default\.weight, …\)"),
    "DICOM file": (dicom, "figures/IM0001 is a DICOM file"),
    "identifier in JSON": (
        written("vae/scan.json", '{\n"PatientName":\n"Doe^J"}'),
        "vae/scan.json, line 2, holds a DICOM",
    ),
    "identifier in the card": (
        appended("README.md", "\nPatient ID: 4711\n"),
        r"README\.md, line \d+, holds a DICOM id",
    ),
    "pickled weights": (written("vae/pytorch_model.bin", ""), r"vae/pytorch_model\.bin is a pickle"),
    "pickle elsewhere": (written("optimizer.pt", ""), r"optimizer\.pt is a pickle"),
    "truncated weights": (cut, rf"{WEIGHTS} is damaged or cut short \(500 bytes"),
    "no index": (without("model_index.json"), r"No model_index\.json in"),
    "broken index": (written("model_index.json", "{"), r"model_index\.json of repository is not valid JSON"),
}


@pytest.mark.parametrize("damage,message", REFUSED.values(), ids=REFUSED)
def test_a_faulty_repository_is_refused_and_nothing_pushed(
    hub: HubServer, repository: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(repository)
    with pytest.raises(RepositoryError, match=message):
        publish(repository, "tester/tiny")
    assert hub.requests == []


def test_every_issue_is_named_once(hub: HubServer, repository: Path) -> None:
    for damage in (cut, dicom, without("README.md")):
        damage(repository)
    with pytest.raises(RepositoryError) as caught:
        publish(repository, "tester/tiny")
    assert len(caught.value.issues) == 3
    assert all(f"\n  - {issue}" in str(caught.value) for issue in caught.value.issues)


@pytest.mark.slow
def test_a_push_that_breaks_off_leaves_the_repository_as_it_was(hub: HubServer, repositories: Path) -> None:
    publish(repositories / "first", "tester/tiny")
    hub.fail_next("/commit/main", 500)
    with pytest.raises(HfHubHTTPError):
        publish(tiny_pipeline(seed=1), "tester/tiny", card=CARD)
    assert published(hub) == tree(repositories / "first")


def test_write_repository_writes_all_of_it(tmp_path: Path) -> None:
    folder = write_repository(tiny_pipeline(seed=2), REPORT, FACTS, tmp_path / "new" / "repository")
    assert {name.partition("/")[0] for name in tree(folder)} == {
        "README.md", "metrics.json", "model_index.json", "figures", "vae",
        f"{PIPELINE}.py", f"{SAVING}.py", f"{CHECKS}.py",
    }  # fmt: skip
    assert Report.read(folder).metrics == REPORT.metrics
    assert decoded(load(folder)) == decoded(tiny_pipeline(seed=2))
    assert [path.name for path in folder.parent.iterdir()] == ["repository"]


def test_write_repository_replaces_what_was_there(repository: Path) -> None:
    (repository / "stale.txt").write_text("old")
    write_repository(tiny_pipeline(seed=2), REPORT, FACTS, repository)
    assert not (repository / "stale.txt").exists()
    assert decoded(load(repository)) == decoded(tiny_pipeline(seed=2))
    assert [path.name for path in repository.parent.iterdir()] == ["repository"]


def no_space(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", [(Report, "save"), (DiffusionPipeline, "save_pretrained")])
def test_a_full_disk_leaves_the_earlier_repository_whole(
    repository: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    before = tree(repository)
    monkeypatch.setattr(*step, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_repository(tiny_pipeline(seed=1), REPORT, FACTS, repository)
    assert tree(repository.parent) == {f"repository/{name}": data for name, data in before.items()}


def test_a_failing_last_rename_leaves_the_earlier_repository_whole(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = tree(repository), Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "repository" and self.parent.name.startswith("."):
            no_space()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space left"):
        write_repository(tiny_pipeline(seed=1), REPORT, FACTS, repository)
    assert tree(repository.parent) == {f"repository/{name}": data for name, data in before.items()}


def test_a_card_with_holes_leaves_the_earlier_repository_whole(repository: Path) -> None:
    before = tree(repository)
    with pytest.raises(RepositoryError, match="Card: It has a hole: 'TODO'"):
        write_repository(tiny_pipeline(seed=1), REPORT, replace(FACTS, limitations="TODO"), repository)
    assert tree(repository) == before
