"""A sample of `benchmarks/file_mutations.py`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers.isolated_calls import Failure, IsolatedCall
from helpers.mutated_reads import BAD, outcomes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_right_or_refused(tmp_path: Path) -> None:
    found = list(outcomes(tmp_path, seed=10, count=120))
    assert [outcome for outcome in found if outcome.kind in BAD] == []
    assert sum(outcome.kind == "right" for outcome in found) > 25
    assert sum(outcome.kind == "refused" for outcome in found) > 50


@pytest.mark.slow
def test_crashes_hangs_and_errors_are_told_apart() -> None:
    with IsolatedCall(os.kill) as call:
        assert call(0, 0) is None
    with IsolatedCall(os._exit) as call:
        assert call(3) == Failure("crash", "exit code 3")
        assert call("x").kind == "TypeError"
    with IsolatedCall(time.sleep, seconds=0.2) as call:
        assert call(9) == Failure("hang")
        assert call(0) is None
