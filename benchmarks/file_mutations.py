"""Benchmark hostile files: 2,000 mutated scans of all formats are read right or refused, each in a limited process.

An answer is right if voxels and affine are those of the original, or those that a second library reads in the mutated
file: nibabel, SimpleITK, or pydicom. "Warned" are those whose header lacks its position or directions, where this is
noted.

    python benchmarks/file_mutations.py [--count N] [--seed N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from parts import exit_with

from meddiffusers.evaluation.results import Bar, write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.mutated_reads import BAD, outcomes

SEED, COUNT = 0, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="number of mutated files; fewer are only printed")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's on the values that mutations write
    start, counts = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for outcome in outcomes(Path(folder), arguments.seed, arguments.count):
            counts[outcome.kind] += 1
            if outcome.kind in BAD:
                print(f"{outcome.kind}: {outcome.what}: {outcome.details[:400]}", flush=True)
    bars = [Bar(f"{arguments.count} mutated files, {kind}", counts[kind], "==", 0) for kind in BAD]
    print(*bars, dict(counts), sep="\n")
    if (arguments.count, arguments.seed) == (COUNT, SEED):
        facts = {kind: counts[kind] for kind in ("right", "refused", "warned")}
        write_results("file_mutations", bars, seed=SEED, n=COUNT, duration_s=time.monotonic() - start, **facts)
    exit_with(bars)


if __name__ == "__main__":
    main()
