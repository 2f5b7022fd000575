"""What the repositories do in a process in which meddiffusers cannot be imported.

    python without_package.py REPOSITORIES WORK

Writes WORK/evidence.json, and what it saved again beside it.
"""

# ruff: noqa: E402  (the environment must be set before huggingface_hub is imported)

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.modules["meddiffusers"] = None  # type: ignore[assignment]  # importing it raises ModuleNotFoundError

from helpers.hub_evidence import decoded, denoised, refusal
from helpers.hub_server import HubServer

REPOSITORIES, WORK = Path(sys.argv[1]), Path(sys.argv[2])
PIPELINE = "meddiffusers_attribute_vae_pipeline_v1"
HUB = HubServer()
os.environ.update(HUB.environment(WORK / "home"))

from diffusers import DiffusionPipeline
from huggingface_hub import HfApi, hf_hub_download


def opened(repository: str | Path, **kwargs: Any) -> Any:
    """A pipeline opened as the card says for where the package is not installed."""
    options = {"custom_pipeline": PIPELINE, "trust_remote_code": True} | kwargs
    return DiffusionPipeline.from_pretrained(repository, **options)


def pushed(name: str, repo_id: str) -> str:
    """Id of the commit that a repository is pushed with."""
    api = HfApi()
    api.create_repo(repo_id, exist_ok=True)
    return api.upload_folder(repo_id=repo_id, folder_path=REPOSITORIES / name).oid


def two_versions(first_repository: str | Path, second_repository: str | Path, saved: Path) -> dict[str, str]:
    """Two repositories opened in turns, with what each pipeline decodes before and after the other is opened."""
    first = opened(first_repository)
    evidence = {"first": decoded(first)}
    first.save_pretrained(saved)
    second = opened(second_repository)
    evidence |= {"second": decoded(second), "first, after the second": decoded(first)}
    evidence |= {"first, opened again": decoded(opened(first_repository)), "second, after that": decoded(second)}
    second.save_pretrained(saved.with_name(f"{saved.name} second"))
    return evidence


def stock(repository: str | Path, saved: Path) -> dict[str, str]:
    """A stock pipeline with a scheduler that is not diffusers' own."""
    pipeline = DiffusionPipeline.from_pretrained(repository, trust_remote_code=True)
    pipeline.save_pretrained(saved)
    return {"images": denoised(pipeline), "untrusted": refusal(lambda: DiffusionPipeline.from_pretrained(repository))}


def from_folders() -> dict[str, Any]:
    first, second = REPOSITORIES / "first", REPOSITORIES / "second"
    return {
        "versions": two_versions(first, second, WORK / "folder"),
        "stock": stock(REPOSITORIES / "stock", WORK / "folder stock"),
        "untrusted": refusal(lambda: opened(first, trust_remote_code=False)),
    }


def from_hub() -> dict[str, Any]:
    old = pushed("first", "tester/first")
    pushed("second", "tester/second")
    pushed("stock", "tester/stock")
    evidence = {
        "versions": two_versions("tester/first", "tester/second", WORK / "hub"),
        "stock": stock("tester/stock", WORK / "hub stock"),
        "untrusted": refusal(lambda: opened("tester/first", trust_remote_code=False)),
    }
    HfApi().create_tag("tester/first", tag="v1")
    pushed("second", "tester/first")
    evidence["revisions"] = {
        "newest": decoded(opened("tester/first")),
        "tag": decoded(opened("tester/first", revision="v1")),
        "commit": decoded(opened("tester/first", revision=old)),
    }
    return evidence


with HUB:
    EVIDENCE: dict[str, Any] = {
        "import meddiffusers": refusal(lambda: importlib.import_module("meddiffusers")),
        "folder": from_folders(),
        "hub": from_hub(),
    }
# Even with local_files_only=True diffusers asks the Hub for the commit of remote code; the folder in the cache serves.
CACHED = Path(hf_hub_download("tester/second", "model_index.json", local_files_only=True)).parent
EVIDENCE["offline"] = decoded(opened(CACHED))
EVIDENCE["scheduler imported"] = "helpers.damped_ddim_scheduler" in sys.modules
(WORK / "evidence.json").write_text(json.dumps(EVIDENCE), encoding="utf-8")
