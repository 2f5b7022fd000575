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


def ratio_in_turn(one: Callable[[], None], other: Callable[[], None], rounds: int) -> tuple[float, float]:
    """How many times as long the first takes, the median over rounds of both; and its own median in seconds.

    Each round starts with another of the two, so that neither always finds the machine as the other leaves it.
    """
    ratios, times = [], []
    for number in range(rounds):
        pair = (one, other) if number % 2 == 0 else (other, one)
        seconds = dict(zip(pair, map(seconds_of, pair), strict=True))
        ratios.append(seconds[one] / seconds[other])
        times.append(seconds[one])
    return statistics.median(ratios), statistics.median(times)


def seconds_of(run: Callable[[], None]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
