"""Run a training script: expected errors without a traceback, and an output folder that no other run writes into."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils import get_int_from_env
from filelock import FileLock, Timeout

from meddiffusers.training.engine.checkpoints import CheckpointError

LOCK = ".lock"  # the file stays, but the lock ends with the process that holds it, even if that is killed
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # as accelerate reads them


def run(main: Callable[[], None]) -> None:
    """Call `main`; errors that say what to do are printed without a traceback, with exit status 2."""
    try:
        main()
    except (ValueError, OSError, ImportError, CheckpointError, FloatingPointError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


@contextmanager
def exclusive_output(folder: str | Path) -> Iterator[None]:
    """Context in which no other run writes into an output folder. The processes of one run share it.

    Args:
        folder: Output folder; created if it does not exist, and removed again if nothing is written.

    Raises:
        ValueError: Another run writes into it.
        OSError: It cannot be written.
    """
    if get_int_from_env(RANKS, 0):
        yield  # the first process holds the lock for all
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder, LOCK), is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"Another training writes into '{folder}'. Wait until it ends, stop it, or give another --output_dir."
        ) from None
    except OSError as error:
        raise OSError(error.errno, f"The output folder cannot be written: {error.strerror}", str(folder)) from error
    try:
        yield
    finally:
        lock.release()
        if [path.name for path in Path(folder).iterdir()] == [LOCK]:  # what was refused before work leaves nothing
            Path(folder, LOCK).unlink()
            Path(folder).rmdir()
