"""Check the weight files of a repository: whole, finite, no pickles, and adapters in files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from meddiffusers.utils.reading import special_kind

ADAPTER = "pytorch_lora_weights.safetensors"  # as diffusers names it
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CHECKED = ("F64", "F32", "F16", "BF16")  # types that hold NaN and that torch checks


def weight_issues(folder: Path, within: str = ".") -> list[str]:
    """Check for damaged .safetensors files, weights that are NaN or infinite, pickles, and adapters in a base model.

    Args:
        folder: Folder of the repository. Issues name files relative to it.
        within: Subfolder to check. Default: everything.
    """
    issues = []
    for path in regular_files(folder / within):
        name = path.relative_to(folder)
        if path.suffix in PICKLES:
            issues.append(f"{name} is a pickle, which can run code when opened. Convert it to safetensors.")
        elif path.suffix == ".safetensors":
            issues += [f"{name} {issue}" for issue in _safetensors_issues(path)]
    return issues


def shapes_of(path: Path) -> dict[str, tuple[str, list[int]]]:
    """{name: (type, shape)} of the tensors in a .safetensors file; empty if it is damaged or no file."""
    if not path.exists() or special_kind(path):
        return {}
    try:
        with safe_open(path, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118  it is no mapping
            return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError):
        return {}  # damaged files are reported by `weight_issues`


def regular_files(folder: Path) -> Iterator[Path]:
    """The files below a folder, without pipes and devices, which would block."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _safetensors_issues(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
            checked = (name for name in names if weights.get_slice(name).get_dtype() in _CHECKED)
            wrong = next((name for name in checked if not torch.isfinite(weights.get_tensor(name)).all()), None)
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            start = file.read(2)
        if start in PICKLE_STARTS:
            return ["is named .safetensors but is a pickle. Convert it with safetensors.torch.save_file."]
        return [f"is damaged or cut short ({path.stat().st_size} bytes; {error}). Fetch it again."]
    issues = [f"holds NaN or infinite values in {wrong}. Fetch it again, or train it anew."] if wrong else []
    is_base = path.name.startswith(("diffusion_pytorch_model", "model"))
    adapters = [name for name in names if "lora_" in name or ".base_layer." in name]
    if is_base and adapters:
        issues.append(
            f"holds adapter weights ({adapters[0]}, …) inside the base model. Unload or fuse the adapter, then save."
        )
    return issues
