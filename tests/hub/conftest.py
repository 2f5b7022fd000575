"""The repositories of `hub_fixtures` on disk, a Hub on loopback, and what two other processes saw of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from helpers.hub_fixtures import FACTS, REPORT, run_script, stock_pipeline, tiny_pipeline, write_second_version
from helpers.hub_server import HubServer
from huggingface_hub import constants

from meddiffusers.hub import write_repository


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The two processes take a while to start, so that all tests of what they saw are slow."""
    for item in items:
        if {"with_package", "without_package"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repositories first (seed 0), second (second version, seed 1) and stock; not to be changed."""
    folder = tmp_path_factory.mktemp("repositories")
    write_repository(tiny_pipeline(seed=0), REPORT, FACTS, folder / "first")
    write_second_version(folder / "second", seed=1)
    stock_pipeline().save_pretrained(folder / "stock")
    return folder


@pytest.fixture(scope="session")
def with_package(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that imports meddiffusers saw."""
    work = tmp_path_factory.mktemp("processes") / "with_package"
    return run_script(Path(__file__).with_name("with_package.py"), repositories, work) | {"work": work}


@pytest.fixture(scope="session")
def without_package(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that cannot import meddiffusers saw."""
    work = tmp_path_factory.mktemp("processes") / "without_package"
    return run_script(Path(__file__).with_name("without_package.py"), repositories, work) | {"work": work}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that this process sees, signed in and with an empty cache; huggingface_hub reads its address at import."""
    with HubServer() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub
