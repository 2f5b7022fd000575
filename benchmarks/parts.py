"""A benchmark in parts: any one of them alone, each with its own results file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meddiffusers.evaluation.results import Bar, write_results

SEED = 0
# Of a checkpoint and a seed: bars, and facts, of which "n" says how many subjects or rounds they were measured over.
Part = Callable[[Path, int], tuple[list[Bar], dict[str, Any]]]


def run_parts(name: str, description: str | None, checkpoint: Path, parts: Mapping[str, Part]) -> None:
    """Runs the part that the command line names, or all; `benchmarks/results/NAME_PART.json` has what it found."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*parts])
    only = parser.parse_args().only
    for part in [only] if only else parts:
        start = time.monotonic()
        bars, facts = parts[part](checkpoint, SEED)
        write_results(f"{name}_{part}", bars, seed=SEED, duration_s=time.monotonic() - start, **facts)
