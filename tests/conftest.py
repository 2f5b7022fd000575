"""Set before anything of the ecosystem is imported: no network, no telemetry, caches of the test run's own."""

from __future__ import annotations

import os
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

pytest.register_assert_rewrite("contracts")
