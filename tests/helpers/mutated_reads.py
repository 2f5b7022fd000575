"""Read mutated files in limited processes and judge the outcomes: right, refused, or a kind of failure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers import second_reader
from helpers.file_mutations import mutations
from helpers.file_originals import Original, originals
from helpers.isolated_calls import Failure, IsolatedCall

REFUSALS = ("ValueError", "UnreadableError", "FileNotFoundError", "PermissionError", "OSError")
BAD = ("crash", "hang", "obscure", "silently wrong")


@dataclass(frozen=True)
class Outcome:
    """What reading a mutated file came to, with details.

    "right", "refused", one of `BAD`, or "warned": read otherwise than before, with a note on what its header lacks.
    """

    kind: str
    what: str
    details: str = ""


def outcomes(folder: Path, seed: int, count: int, seconds: float = 10) -> Iterator[Outcome]:
    """Mutate and read `count` files, written below a folder."""
    kinds = originals(folder / "originals")
    with IsolatedCall(read_arrays, seconds) as read, IsolatedCall(read_second, seconds) as second:
        known = {kind.name: read(str(_written(kind, kind.files, folder / "whole"))) for kind in kinds}
        for number, mutation in enumerate(mutations(kinds, seed, count)):
            path = _written(mutation.original, mutation.files, folder / f"{number:04}")
            found, what = read(str(path)), f"{number} {mutation.original.name}, {mutation.change}"
            yield _judged(found, known[mutation.original.name], path, what, second)


def read_arrays(path: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Voxels, affine and notes as this package reads them."""
    import logging

    from meddiffusers.data.io import read

    logging.disable(logging.WARNING)
    scan = read(path)
    return scan.array, scan.affine, scan.notes


def read_second(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine as another library reads them."""
    if path.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return second_reader.read_with_nibabel(Path(path))
    if path.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        return second_reader.read_with_itk(Path(path))
    return second_reader.read_with_pydicom(Path(path))


def _written(original: Original, files: dict[str, bytes], folder: Path) -> Path:
    place = folder / original.name.replace(".", "-")
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place / original.opened


def _judged(found: Any, known: Any, path: Path, what: str, second: IsolatedCall) -> Outcome:
    if isinstance(found, Failure):
        if found.kind in ("crash", "hang"):
            return Outcome(found.kind, what, found.message)
        named = str(path) in found.message or str(path.parent) in found.message
        clear = found.kind in REFUSALS and named and "expected" in found.message
        return Outcome("refused" if clear else "obscure", what, f"{found.kind}: {found.message}")
    if _alike(found, known):
        return Outcome("right", what)
    answer = second(str(path))
    if not isinstance(answer, Failure) and _alike(found, answer):
        return Outcome("right", what)
    if found[2]:
        return Outcome("warned", what, "; ".join(found[2]))
    theirs = answer if isinstance(answer, Failure) else f"{answer[0].shape} {answer[1].round(4).tolist()}"
    return Outcome("silently wrong", what, f"{found[0].shape} {found[1].round(4).tolist()}; second: {theirs}")


def _alike(found: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    same = found[0].shape == known[0].shape and np.allclose(found[0], known[0], rtol=1e-5, atol=1e-4, equal_nan=True)
    return bool(same and np.allclose(found[1], known[1], rtol=1e-4, atol=1e-3))
