"""The shipped detector of anomalies: what it finds beside baselines, inversion, steps and cost, generation, the grid.

The autoencoder that is one of the baselines is trained first, into runs/anomaly-vae, unless it is there already. Each
part writes its results, benchmarks/results/anomaly_PART.json, once it is done.

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
