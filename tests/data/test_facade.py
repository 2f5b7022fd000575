"""The names that `meddiffusers.data` offers."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from meddiffusers import data
from meddiffusers.data import Preprocessing, Scan, read, write


def test_a_scan_is_read_preprocessed_and_written_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(1, 900, (6, 8, 4)).astype(np.int16)
    path = write(Scan(array, np.diag([2.0, 2.0, 3.0, 1.0]), "t1"), tmp_path / "t1.nii.gz")
    scan = read(path)
    preprocessed = Preprocessing(size=(10, 10, 10))(scan)
    mask = preprocessed.image.like((preprocessed.image.array > 0.5).astype(np.uint8), "labels")
    restored = read(write(preprocessed.invert(mask), tmp_path / "mask.nii.gz"))
    assert restored.shape == scan.shape
    np.testing.assert_array_equal(restored.affine, scan.affine)


def test_every_name_is_that_of_its_module() -> None:
    assert sorted(data.PUBLIC) == sorted(data.__all__) == dir(data)
    for name, module in data.PUBLIC.items():
        assert getattr(data, name) is getattr(importlib.import_module(module), name)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'meddiffusers\.data' has no attribute 'Case'"):
        _ = data.Case


@pytest.mark.slow
def test_importing_the_package_imports_no_reader() -> None:
    unwanted = "[name for name in sys.modules if name.startswith(('nibabel', 'meddiffusers.data.'))]"
    program = f"import sys, meddiffusers.data; print({unwanted})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")
