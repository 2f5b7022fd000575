"""KID and prompt adherence by number of steps, for three schedulers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from text_to_mr_quality import predictor, splits_of_config

from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kid_score
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.text_to_mr.prompt_adherence import MEDIAN, evaluate_prompt_adherence, predict_attributes
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts, prompts_of, real_images, targets_of
from meddiffusers.hub.load import load

SCHEDULERS = {"DDIM": DDIMScheduler, "DPM-Solver++": DPMSolverMultistepScheduler, "UniPC": UniPCMultistepScheduler}
STEPS, MANY, IMAGES = (5, 10, 20), 200, 64


def steps(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bar, and the table."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    rows = splits_of_config()["test"].select(range(IMAGES))
    targets, subjects, network = targets_of(rows), list(rows["subject"]), EfficientNetLite0()
    texts, real = prompts_of(pipeline, targets), network(real_images(rows)).cpu().numpy()
    settings, table = pipeline.scheduler.config, []
    for name, kind in SCHEDULERS.items():
        pipeline.scheduler = kind.from_config(settings)
        for count in (*STEPS, MANY) if name == "DDIM" else STEPS:
            began = time.perf_counter()
            images = generate_from_prompts(pipeline, texts, seed, num_inference_steps=count)
            seconds = (time.perf_counter() - began) / IMAGES
            distance = kid_score(real, network(images).cpu().numpy(), seed=seed).value
            report = evaluate_prompt_adherence(
                targets, predict_attributes(predictor(), images), subjects, dataset="", seed=seed
            )
            row = {"scheduler": name, "steps": count, "kid": distance, "seconds": seconds}
            table.append(row | {key: report.value(key) for key in ("modality_accuracy", MEDIAN)})
            print(table[-1], flush=True)
    kids = {(row["scheduler"], row["steps"]): row["kid"] for row in table}
    best = min(kids[name, 20] for name in SCHEDULERS)
    bars = [Bar(f"steps: KID of 20 steps over that of {MANY}", best / kids["DDIM", MANY], "<=", 1.1)]
    return bars, {"n": len(set(subjects)), "images": IMAGES, "table": table}
