"""Environment of the test run: offline, without telemetry, own caches, and all random numbers seeded."""

from __future__ import annotations

import gc
import os
import random
import tempfile
from pathlib import Path

import pytest

_CACHE = Path(tempfile.gettempdir()) / "meddiffusers-tests"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HOME"] = str(_CACHE / "hf")
# Code of repositories is copied there when it is run, so each process of the test run has a place of its own.
os.environ["HF_MODULES_CACHE"] = str(_CACHE / "modules" / os.environ.get("PYTEST_XDIST_WORKER", "one"))

# Importing makes many objects that stay; walking them again and again would take a tenth of the run.
gc.disable()

# These libraries read the environment when they are imported.
import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

pytest.register_assert_rewrite("contracts")
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")


def seed_all() -> None:
    """Seed the global generators, so that a test does not depend on those that ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collectstart() -> None:
    """Seed what a test module creates when it is imported, which is when it is collected."""
    seed_all()


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of garbage collection."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed each test, and the fixtures that it sets up."""
    seed_all()


@pytest.fixture
def small_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute image features at 64² instead of 224² pixels, for tests that compare sets of images."""
    from meddiffusers.evaluation.metrics import image_features

    monkeypatch.setattr(image_features, "SIZE", 64)
