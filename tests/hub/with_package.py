"""What the repositories do in a process that imports meddiffusers.

    python with_package.py REPOSITORIES WORK

Writes WORK/evidence.json, and what it saved again beside it.
"""

# ruff: noqa: E402  (the environment must be set before huggingface_hub is imported)

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from helpers.hub_evidence import decoded, denoised, refusal
from helpers.hub_server import HubServer

REPOSITORIES, WORK = Path(sys.argv[1]), Path(sys.argv[2])
HUB = HubServer()
os.environ.update(HUB.environment(WORK / "home"))

import meddiffusers  # noqa: F401

IMPORTED = sorted(sys.modules)

from diffusers import AutoModel, DDIMScheduler, DiffusionPipeline
from huggingface_hub import HfApi

from meddiffusers.hub import publish
from meddiffusers.registration import register

register({"DampedDDIMScheduler": "helpers.damped_ddim_scheduler"})


def home(thing: Any) -> str:
    """The module of a thing's class."""
    return type(thing).__module__


def first_version(repository: str | Path, saved: Path) -> dict[str, str]:
    pipeline = DiffusionPipeline.from_pretrained(repository)
    pipeline.save_pretrained(saved)
    model = AutoModel.from_pretrained(str(repository), subfolder="vae")
    return {
        "images": decoded(pipeline),
        "pipeline": home(pipeline),
        "model": home(pipeline.vae),
        "AutoModel": home(model),
        "AutoModel's images": decoded(type(pipeline)(model)),
    }


def two_versions(first_repository: str | Path, second_repository: str | Path) -> dict[str, str]:
    """The second version has another file than the package, so it needs trust; the first keeps to the package."""
    first = DiffusionPipeline.from_pretrained(first_repository)
    second = DiffusionPipeline.from_pretrained(second_repository, trust_remote_code=True)
    return {
        "untrusted": refusal(lambda: DiffusionPipeline.from_pretrained(second_repository)),
        "second": decoded(second),
        "second's model": home(second.vae).partition(".")[0],
        "first": decoded(first),
        "first, trusted": home(DiffusionPipeline.from_pretrained(first_repository, trust_remote_code=True).vae),
    }


def stock(repository: str | Path, saved: Path) -> dict[str, str]:
    pipeline = DiffusionPipeline.from_pretrained(repository)
    pipeline.save_pretrained(saved)
    return {"images": denoised(pipeline), "scheduler": home(pipeline.scheduler)}


def from_folders() -> dict[str, Any]:
    first, second = REPOSITORIES / "first", REPOSITORIES / "second"
    return {
        "first": first_version(first, WORK / "folder"),
        "versions": two_versions(first, second),
        "stock": stock(REPOSITORIES / "stock", WORK / "folder stock"),
    }


def from_hub() -> dict[str, Any]:
    publish(REPOSITORIES / "first", "tester/first")
    for name in ("second", "stock"):
        HfApi().create_repo(f"tester/{name}")
        HfApi().upload_folder(repo_id=f"tester/{name}", folder_path=REPOSITORIES / name)
    return {
        "first": first_version("tester/first", WORK / "hub"),
        "versions": two_versions("tester/first", "tester/second"),
        "stock": stock("tester/stock", WORK / "hub stock"),
    }


def compatibles() -> dict[str, Any]:
    """diffusers looks compatible schedulers up by name, in its own namespace."""
    stock: Any = DDIMScheduler(num_train_timesteps=7)
    scheduler = sys.modules["diffusers"].DampedDDIMScheduler.from_config(stock.config)
    return {
        "names": sorted(cls.__name__ for cls in scheduler.compatibles),
        "steps": scheduler.config["num_train_timesteps"],
    }


with HUB:
    EVIDENCE: dict[str, Any] = {
        "imported": IMPORTED,
        "compatibles": compatibles(),
        "folder": from_folders(),
        "hub": from_hub(),
    }
EVIDENCE["offline"] = decoded(DiffusionPipeline.from_pretrained("tester/first", local_files_only=True))
(WORK / "evidence.json").write_text(json.dumps(EVIDENCE), encoding="utf-8")
