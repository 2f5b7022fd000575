"""Latent diffusion: the shipped models, decoding at full size, a bundle of MONAI's zoo, data sets in bulk.

Each part writes its results to benchmarks/results/ldm_PART.json.

    python benchmarks/ldm.py [--only volumes|masks|plan|decode|bundle|bulk]
"""

from __future__ import annotations

from pathlib import Path

from ldm_bulk import bulk
from ldm_bundle import bundle
from ldm_decode import decode
from ldm_masks import masks
from ldm_plan import plan
from ldm_volumes import volumes
from parts import run_parts

CHECKPOINTS = Path("examples/checkpoints")
PARTS = {"volumes": volumes, "masks": masks, "plan": plan, "decode": decode, "bundle": bundle, "bulk": bulk}


if __name__ == "__main__":
    run_parts("ldm", __doc__, CHECKPOINTS, PARTS)
