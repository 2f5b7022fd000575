"""The shipped text-to-MR model: prompts, quality, steps, cost, its adapter, the paper's networks.

The independent predictor is `examples/checkpoints/attribute-predictor-brain`. Each part writes its results to
benchmarks/results/text_to_mr_PART.json.

    python benchmarks/text_to_mr.py [--only prompts|quality|steps|cost|lora|paper]
"""

from __future__ import annotations

from pathlib import Path

from parts import run_parts
from text_to_mr_cost import cost
from text_to_mr_lora import lora
from text_to_mr_paper import paper
from text_to_mr_prompts import prompts
from text_to_mr_quality import quality
from text_to_mr_steps import steps

CHECKPOINT = Path("examples/checkpoints/text-to-mr-brain")
PARTS = {"prompts": prompts, "quality": quality, "steps": steps, "cost": cost, "lora": lora, "paper": paper}


if __name__ == "__main__":
    run_parts("text_to_mr", __doc__, CHECKPOINT, PARTS)
