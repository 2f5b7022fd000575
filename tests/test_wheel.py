"""The wheel holds what the tree holds, and works outside the clone, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "examples" / "checkpoints" / "ar-vae-mnist"
PACKAGES = {
    "src/meddiffusers": "meddiffusers",
    "pipelines": "meddiffusers/pipelines",
    "model_cards": "meddiffusers/model_cards",
    "training": "meddiffusers/scripts",
}
METADATA = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
GENERATED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")

IMPORT_EVERY_MODULE = """
import importlib, pkgutil, sys
import meddiffusers
assert meddiffusers.__file__.startswith(sys.prefix), meddiffusers.__file__
def fail(name): raise
names = [module.name for module in pkgutil.walk_packages(meddiffusers.__path__, "meddiffusers.", onerror=fail)]
for name in names:
    assert importlib.import_module(name).__file__.startswith(sys.prefix), name
print(*names)
"""
ENCODE = """
import sys
import torch
from diffusers import DiffusionPipeline
import meddiffusers
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
assert type(pipeline) is meddiffusers.AttributeVAEPipeline
latents = pipeline.encode(torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)))
print(*latents.shape, bool(latents.isfinite().all()))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, without the leftovers of earlier builds."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, tree / folder, ignore=GENERATED)
    for name in METADATA:
        shutil.copyfile(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    _run(sys.executable, "-m", "pip", "wheel", *options, tree)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which takes everything else from the current environment.

    The path of the current site-packages comes after its own, and the `.pth` files there, such as that of an editable
    installation, are not executed.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "current.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """The output of a command that must succeed, run without the paths of the tests."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**variables, "HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _modules(tree: Path) -> set[str]:
    """Every module of the tree, by the name that it is imported by."""
    names = set()
    for folder, package in PACKAGES.items():
        for file in (tree / folder).rglob("*.py"):
            module = Path(package, file.relative_to(tree / folder)).with_suffix("")
            names.add(".".join(module.parent.parts if module.name == "__init__" else module.parts))
    return names


def test_it_holds_every_file_of_the_tree(tree: Path, wheel: Path) -> None:
    expected = {
        f"{package}/{file.relative_to(tree / folder).as_posix()}"
        for folder, package in PACKAGES.items()
        for file in (tree / folder).rglob("*")
        if file.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {"meddiffusers/py.typed", "meddiffusers/scripts/configs/ar_vae_mnist.yaml"} <= held


def test_every_module_is_imported_from_it(environment: Path, tree: Path, tmp_path: Path) -> None:
    output = _run(environment / "bin" / "python", "-c", IMPORT_EVERY_MODULE, cwd=tmp_path)
    assert {"meddiffusers", *output.split()} == _modules(tree)


def test_the_command_line_helps_and_knows_what_can_be_trained(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "meddiffusers"
    assert "Generative models for medical imaging" in _run(command, "--help", cwd=tmp_path)
    assert "segmentation_brain, segmentation_lora" in _run(command, "train", "--list", cwd=tmp_path)
    assert "--noise_samples" in _run(command, "train", "segmentation", "--help", cwd=tmp_path)


def test_a_shipped_repository_opens_and_encodes_an_image(environment: Path, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "repository", ignore=GENERATED)
    output = _run(environment / "bin" / "python", "-c", ENCODE, tmp_path / "repository", cwd=tmp_path)
    assert output.split()[-3:] == ["1", "16", "True"]
