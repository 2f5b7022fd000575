from __future__ import annotations

import resource
import warnings
from pathlib import Path

import pytest
from helpers.corrupted_files import corrupted_files

from meddiffusers.data.io import read


def test_200_corrupted_files_give_200_clear_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    issues = []
    for path in corrupted_files(tmp_path, seed=0, count=200):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                scan = read(path)
            issues.append(f"{path}: read as {scan.array.shape} at {scan.affine.tolist()}")
        except ValueError as error:
            if str(path) not in str(error) or "expected" not in str(error):
                issues.append(f"{path}: {error}")
    assert not issues, "\n".join(issues)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert capfd.readouterr() == ("", "")
