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
    """What reading a mutated file came to: "right", "refused", or one of `BAD`, with details."""

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


def read_arrays(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine as this package reads them."""
    import logging

    from meddiffusers.data.io import read

    logging.disable(logging.WARNING)
    scan = read(path)
    return scan.array, scan.affine


def read_second(path: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Voxels and affine as other libraries read them; those that fail are left out."""
    lower, answers = path.lower(), []
    if lower.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        readers = [second_reader.read_with_nibabel]
    elif lower.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        readers = [second_reader.read_with_itk]
    else:
        readers = [second_reader.read_with_pydicom]
    for reader in readers:
        answers.append(reader(Path(path)))
    return answers


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
    answers = second(str(path))
    if not isinstance(answers, Failure) and any(_alike(found, answer) for answer in answers):
        return Outcome("right", what)
    theirs = answers if isinstance(answers, Failure) else [(a.shape, b.round(4).tolist()) for a, b in answers]
    return Outcome("silently wrong", what, f"{found[0].shape} {found[1].round(4).tolist()}; second: {theirs}")


def _alike(found: tuple[np.ndarray, np.ndarray], known: tuple[np.ndarray, np.ndarray]) -> bool:
    same = found[0].shape == known[0].shape and np.allclose(found[0], known[0], rtol=1e-5, atol=1e-4, equal_nan=True)
    return bool(same and np.allclose(found[1], known[1], rtol=1e-4, atol=1e-3))
