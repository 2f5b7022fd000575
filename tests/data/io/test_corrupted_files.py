from __future__ import annotations

import resource
import warnings
from pathlib import Path

import pytest
from helpers.corrupted_files import corrupted_files

from meddiffusers.data.io import read


def test_200_corrupted_files_give_200_clear_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faults = []
    for path in corrupted_files(tmp_path, seed=0, count=200):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                scan = read(path)
            faults.append(f"{path}: read as {scan.array.shape} at {scan.affine.tolist()}")
        except ValueError as error:
            if str(path) not in str(error) or "expected" not in str(error):
                faults.append(f"{path}: {error}")
    assert not faults, "\n".join(faults)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert capfd.readouterr() == ("", "")
