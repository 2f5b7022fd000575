"""The shipped anomaly detector: quality against baselines, inversion, steps, cost, generation and a parameter grid.

The autoencoder baseline is trained first, into runs/anomaly-vae, if it does not exist. Each part writes its results to
benchmarks/results/anomaly_PART.json.

    python benchmarks/anomaly.py [--only quality|inversion|steps|cost|generation|grid]
"""

from __future__ import annotations

from pathlib import Path

from anomaly_cost import cost, steps
from anomaly_generation import generation
from anomaly_grid import grid
from anomaly_inversion import inversion
from anomaly_quality import quality
from parts import run_parts

CHECKPOINT = Path("examples/checkpoints/anomaly-ddim-brain")
PARTS = {
    "quality": quality,
    "inversion": inversion,
    "steps": steps,
    "cost": cost,
    "generation": generation,
    "grid": grid,
}


if __name__ == "__main__":
    run_parts("anomaly", __doc__, CHECKPOINT, PARTS)
