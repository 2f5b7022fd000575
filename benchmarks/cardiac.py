"""The shipped temporal consistency pipeline: hearts of other generators, comparison with smoothing, errors, time.

Each part writes its results to benchmarks/results/cardiac_PART.json when it is done.

    python benchmarks/cardiac.py [--only hearts|ellipses|clean|rare|frequent|kinds|latents|measures|speed]
"""

from __future__ import annotations

from pathlib import Path

from cardiac_hearts import ellipses, hearts
from cardiac_kinds import kinds
from cardiac_latents import latents
from cardiac_measures import measures
from cardiac_repair import clean, frequent, rare
from cardiac_speed import speed
from parts import run_parts

CHECKPOINT = Path("examples/checkpoints/ar-vae-cardiac")
PARTS = {
    "hearts": hearts,
    "ellipses": ellipses,
    "clean": clean,
    "rare": rare,
    "frequent": frequent,
    "kinds": kinds,
    "latents": latents,
    "measures": measures,
    "speed": speed,
}


if __name__ == "__main__":
    run_parts("cardiac", __doc__, CHECKPOINT, PARTS)
