"""How few steps are enough: kernel distance and faithfulness against steps, for three schedulers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from text_to_mr_quality import judge, unseen

from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kernel_distance
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.text_to_mr.prompt_fidelity import MEDIAN, evaluate_faithfulness, read_pictures
from meddiffusers.evaluation.text_to_mr.run import asked_of, drawn, prompts_of, real_pictures
from meddiffusers.hub.load import load

SCHEDULERS = {"DDIM": DDIMScheduler, "DPM-Solver++": DPMSolverMultistepScheduler, "UniPC": UniPCMultistepScheduler}
STEPS, MANY, PICTURES = (5, 10, 20), 200, 64


def steps(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bar, and the table."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = unseen()["test"].select(range(PICTURES))
    asked, subjects, network = asked_of(rows), list(rows["subject"]), EfficientNetLite0()
    texts, real = prompts_of(pipeline, asked), network(real_pictures(rows)).cpu().numpy()
    settings, table = pipeline.scheduler.config, []
    for name, kind in SCHEDULERS.items():
        pipeline.scheduler = kind.from_config(settings)
        for count in (*STEPS, MANY) if name == "DDIM" else STEPS:
            began = time.perf_counter()
            images = drawn(pipeline, texts, seed, num_inference_steps=count)
            seconds = (time.perf_counter() - began) / PICTURES
            distance = kernel_distance(real, network(images).cpu().numpy(), seed=seed).value
            found = evaluate_faithfulness(asked, read_pictures(judge(), images), subjects, dataset="", seed=seed)
            row = {"scheduler": name, "steps": count, "kernel distance": distance, "seconds": seconds}
            table.append(row | {key: found.value(key) for key in ("modality", MEDIAN)})
            print(table[-1], flush=True)
    of = {(row["scheduler"], row["steps"]): row["kernel distance"] for row in table}
    best = min(of[name, 20] for name in SCHEDULERS)
    bars = [Bar(f"steps: kernel distance of 20 steps over that of {MANY}", best / of["DDIM", MANY], "<=", 1.1)]
    return bars, {"n": len(set(subjects)), "pictures": PICTURES, "table": table}
