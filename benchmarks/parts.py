"""Benchmarks in parts, each with its own results file, and the exit status of a benchmark."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meddiffusers.evaluation.results import Bar, write_results

SEED = 0
# Maps a checkpoint and a seed to bars and facts, of which "n" is the number of subjects or rounds.
Part = Callable[[Path, int], tuple[list[Bar], dict[str, Any]]]


def run_parts(name: str, description: str | None, checkpoint: Path, parts: Mapping[str, Part]) -> None:
    """Run the part that the command line names, or all; each writes `benchmarks/results/NAME_PART.json`.

    Exits with status 1 if a bar is missed.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*parts])
    only = parser.parse_args().only
    all_bars = []
    for part in [only] if only else parts:
        start = time.monotonic()
        bars, facts = parts[part](checkpoint, SEED)
        write_results(f"{name}_{part}", bars, seed=SEED, duration_s=time.monotonic() - start, **facts)
        all_bars += bars
    exit_with(all_bars)


def exit_with(bars: Sequence[Bar]) -> None:
    """End the process: print the bars that are missed, with status 1, or end with status 0."""
    missed = [bar for bar in bars if not bar.holds]
    if missed:
        print(f"{len(missed)} of {len(bars)} bars missed:", *missed, sep="\n  ")
    sys.exit(bool(missed))
