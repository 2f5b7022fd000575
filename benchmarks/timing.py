"""Times of several things that are compared: taken in turn, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def medians_in_turn(*runs: Callable[[], None], rounds: int) -> list[float]:
    """Seconds of each."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for own, run in zip(times, runs, strict=True):
            own.append(seconds_of(run))
    return [statistics.median(own) for own in times]


def seconds_of(run: Callable[[], None]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
