"""The shipped detector of anomalies: what it finds beside baselines, inversion, steps and cost, generation, the grid.

The autoencoder that is one of the baselines is trained first, into runs/anomaly-vae, unless it is there already. Each
part writes its results, benchmarks/results/anomaly_PART.json, once it is done.

    python benchmarks/anomaly.py [--only quality|inversion|cost|generation|grid]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from anomaly_cost import cost
from anomaly_generation import generation
from anomaly_grid import grid
from anomaly_inversion import inversion
from anomaly_quality import quality

from meddiffusers.evaluation.results import write_results
from meddiffusers.training.segmentation_data import SegmentationDataConfig

SEED = 0
CHECKPOINT = Path("examples/checkpoints/anomaly-ddim-brain")
PARTS = {"quality": quality, "inversion": inversion, "cost": cost, "generation": generation, "grid": grid}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*PARTS])
    only = parser.parse_args().only
    for name in [only] if only else PARTS:
        start = time.monotonic()
        bars, facts = PARTS[name](CHECKPOINT, SEED)
        subjects = SegmentationDataConfig().phantom_test_slices // 2
        write_results(f"anomaly_{name}", bars, seed=SEED, n=subjects, duration_s=time.monotonic() - start, **facts)


if __name__ == "__main__":
    main()
