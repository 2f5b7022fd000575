"""Latent diffusion in three dimensions: decoding at full size, a bundle of MONAI's zoo, data sets in bulk.

Each part writes its results, benchmarks/results/ldm_PART.json, once it is done. No trained repository is needed.

    python benchmarks/ldm.py [--only decode|bundle|bulk]
"""

from __future__ import annotations

from pathlib import Path

from ldm_bulk import bulk
from ldm_bundle import bundle
from ldm_decode import decode
from parts import run_parts

PARTS = {"decode": decode, "bundle": bundle, "bulk": bulk}


if __name__ == "__main__":
    run_parts("ldm", __doc__, Path(), PARTS)
