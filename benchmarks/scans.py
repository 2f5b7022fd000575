"""Benchmark scans and phantoms: reading, realism, time and volumes.

CPU times are those of one thread. Parts can be run alone; then results are only printed.

    python benchmarks/scans.py [--colin PATH] [--only reading|realism|phantom|slices]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from parts import exit_with
from scans_phantom import phantom_bars, slices_bars
from scans_reading import SUBJECTS, reading_bars
from scans_realism import COLIN, realism
from threadpoolctl import threadpool_limits

from meddiffusers.evaluation.results import Bar, write_results

SEED = 0
PARTS = ("reading", "realism", "phantom", "slices")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--colin", type=Path, default=COLIN, help="ch2bet.nii.gz from Debian's package mricron-data")
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # waiting threads count as CPU time
    start = time.monotonic()
    bars: list[Bar] = []
    facts: dict[str, Any] = {}
    for part in [arguments.only] if arguments.only else PARTS:
        if part == "realism":
            facts[part] = realism(SEED, arguments.colin)
        elif part == "slices":
            bars += slices_bars(SEED)
        else:
            part_bars, facts[part] = (reading_bars if part == "reading" else phantom_bars)(SEED)
            bars += part_bars
    if arguments.only:
        print("\n".join(map(str, bars)), facts, sep="\n")
    else:
        write_results("scans", bars, seed=SEED, n=SUBJECTS, duration_s=time.monotonic() - start, **facts)
    exit_with(bars)


if __name__ == "__main__":
    main()
