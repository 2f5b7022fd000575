"""What `import meddiffusers` costs over `import diffusers`.

Each import runs in an interpreter of its own, the two in turn, after one of each has filled the caches of bytecode and
files. Time is the CPU time of the import statement: with warm caches nothing in it waits, so other work on the machine
hardly counts. The claim is the median of the ratios of neighbours.

    python benchmarks/import_time.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from parts import exit_with
from rich.console import Console
from rich.table import Table

from meddiffusers.evaluation.results import Bar, write_results

PAIRS = 7
TIMED = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def import_seconds(module: str) -> float:
    """CPU seconds of the import in a fresh interpreter, which may write bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    start = time.monotonic()
    import_seconds("meddiffusers")
    pairs = [(import_seconds("diffusers"), import_seconds("meddiffusers")) for _ in range(PAIRS)]
    table = Table("diffusers [s]", "meddiffusers [s]", "ratio", box=None)
    for base, ours in pairs:
        table.add_row(f"{base:.3f}", f"{ours:.3f}", f"{ours / base:.3f}")
    Console(markup=False).print(table)
    ratio = statistics.median(ours / base for base, ours in pairs)
    bars = [Bar("CPU time of import, meddiffusers over diffusers, median of pairs", ratio, "<=", 1.15)]
    write_results(
        "import_time",
        bars,
        seed=0,
        n=PAIRS,
        duration_s=time.monotonic() - start,
        diffusers_s=[round(base, 3) for base, _ in pairs],
        meddiffusers_s=[round(ours, 3) for _, ours in pairs],
    )
    exit_with(bars)


if __name__ == "__main__":
    main()
