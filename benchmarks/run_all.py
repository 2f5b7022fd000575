"""Run all benchmarks, also after one has failed, and list the failures.

Exits with status 1 if a bar is missed or a benchmark raises an error. `--train` also trains the shipped AR-VAE of
digits again, with three seeds.

    python benchmarks/run_all.py [--train]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
SCRIPTS = (
    "import_time",
    "engine_overhead",
    "digit_measurement",
    "attributes",
    "scans",
    "file_mutations",
    "segmentation",
    "anomaly",
    "cardiac",
    "text_to_mr",
    "ldm",
)
TRAINING = ("attribute_training",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="also run the benchmarks that train shipped models")
    start = time.time()
    failed = []
    for script in (*SCRIPTS, *(TRAINING if parser.parse_args().train else ())):
        print(f"== {script}", flush=True)
        if subprocess.run([sys.executable, FOLDER / f"{script}.py"], check=False).returncode:
            failed.append(script)
    if failed:
        print(f"Failed: {', '.join(failed)}. Bars missed:", *missed_bars(FOLDER / "results", start), sep="\n  ")
    sys.exit(bool(failed))


def missed_bars(results: Path, since: float) -> list[str]:
    """Bars that do not hold in the results files written since a time (seconds since the epoch)."""
    lines = []
    for file in sorted(results.glob("*.json")):
        if file.stat().st_mtime >= since:
            bars = json.loads(file.read_text(encoding="utf-8"))["bars"]
            lines += [
                f"{file.stem}: {bar['name']}: {bar['value']:.4g} {bar['op']} {bar['bound']:g}"
                for bar in bars
                if not bar["holds"]
            ]
    return lines


if __name__ == "__main__":
    main()
