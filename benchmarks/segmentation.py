"""The shipped segmentation model: quality beside a supervised U-Net, steps, cost, adapters, the paper's network.

The U-Net of equal size is trained first, for as long as the shipped model would take here, into runs/segmentation-unet,
unless it is there already. Each part writes its results, benchmarks/results/segmentation_PART.json, once it is done.

    python benchmarks/segmentation.py [--only quality|steps|cost|lora|paper]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from segmentation_cost import cost
from segmentation_lora import lora
from segmentation_paper import paper
from segmentation_quality import quality
from segmentation_steps import steps

from meddiffusers.evaluation.results import write_results
from meddiffusers.training.segmentation_data import SegmentationDataConfig

SEED = 0
CHECKPOINT = Path("examples/checkpoints/seg-ddpm-brain")
PARTS = {"quality": quality, "steps": steps, "cost": cost, "lora": lora, "paper": paper}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*PARTS])
    only = parser.parse_args().only
    for name in [only] if only else PARTS:
        start = time.monotonic()
        bars, facts = PARTS[name](CHECKPOINT, SEED)
        write_results(
            f"segmentation_{name}",
            bars,
            seed=SEED,
            n=SegmentationDataConfig().phantom_test_slices // 2,
            duration_s=time.monotonic() - start,
            **facts,
        )


if __name__ == "__main__":
    main()
