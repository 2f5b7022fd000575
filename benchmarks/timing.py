"""Compare run times: the runs alternate, so that a slow moment of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def medians_in_turn(*runs: Callable[[], None], rounds: int) -> list[float]:
    """Median seconds of each run over the rounds."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for own, run in zip(times, runs, strict=True):
            own.append(seconds_of(run))
    return [statistics.median(own) for own in times]


def ratio_in_turn(one: Callable[[], None], other: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median ratio of the run times of `one` and `other` over the rounds, and the median seconds of `one`.

    The order alternates between rounds.
    """
    ratios, times = [], []
    for number in range(rounds):
        pair = (one, other) if number % 2 == 0 else (other, one)
        seconds = dict(zip(pair, map(seconds_of, pair), strict=True))
        ratios.append(seconds[one] / seconds[other])
        times.append(seconds[one])
    return statistics.median(ratios), statistics.median(times)


def seconds_of(run: Callable[[], None]) -> float:
    """Run time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
