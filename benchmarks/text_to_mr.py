"""The shipped text-to-MR model: prompts, what it draws, steps, cost, its adapter, the paper's networks.

The judge is `examples/checkpoints/attribute-predictor-brain`, made by training/train_attribute_predictor.py. Each part writes its
results, benchmarks/results/text_to_mr_PART.json, once it is done.

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
