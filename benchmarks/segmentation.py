"""The shipped segmentation model: quality against a supervised U-Net, steps, cost, adapters, the paper's network.

The U-Net of equal size is trained first, for as long as the shipped model would take here, into runs/segmentation-unet,
if it does not exist. Each part writes its results to benchmarks/results/segmentation_PART.json.

    python benchmarks/segmentation.py [--only quality|steps|cost|lora|paper]
"""

from __future__ import annotations

from pathlib import Path

from parts import run_parts
from segmentation_cost import cost
from segmentation_lora import lora
from segmentation_paper import paper
from segmentation_quality import quality
from segmentation_steps import steps

CHECKPOINT = Path("examples/checkpoints/seg-ddpm-brain")
PARTS = {"quality": quality, "steps": steps, "cost": cost, "lora": lora, "paper": paper}


if __name__ == "__main__":
    run_parts("segmentation", __doc__, CHECKPOINT, PARTS)
