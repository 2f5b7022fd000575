"""Bulk generation: two processes against one, and a run that is killed at random against an undisturbed one.

The model is small and untrained: only the generation and writing of samples is measured, not their content.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from meddiffusers import ConditionedUNet, LatentDiffusionPipeline, MonaiAutoencoderKL
from meddiffusers.evaluation.results import Bar

SAMPLES, SHARD, STEPS, KILLS = 600, 2, 20, 10  # so many that starting a process does not count

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # of each process


def bulk(_checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars: times faster with two processes; files that differ after ten deaths."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _pipeline(seed).save_pretrained(folder / "model")
        seconds = {count: _timed(folder, f"by-{count}", count) for count in (1, 2)}
        first = _timed(folder, "first", 1, samples=SHARD)
        shard = (seconds[1] - first) / (SAMPLES / SHARD - 1)
        print(seconds, first, shard, flush=True)
        rng = random.Random(seed)
        lives = [rng.uniform(0.5 * first, first + 20 * shard) for _ in range(KILLS)]
        deaths = sum(_died(folder, "killed", life) for life in lives)
        _timed(folder, "killed", 1)
        undisturbed, killed = (_files(folder / name) for name in ("by-1", "killed"))
        differing = sum(killed.get(name) != content for name, content in undisturbed.items())
        differing += len(killed.keys() - undisturbed.keys())
    bars = [
        Bar("bulk: times faster with two processes on two cores", seconds[1] / seconds[2], ">=", 1.7),
        Bar("bulk: times it was killed", deaths, ">=", KILLS),
        Bar("bulk: files that differ from those of an undisturbed run", differing, "==", 0),
    ]
    return bars, {"n": SAMPLES, "seconds": seconds, "seconds of lives": lives}


def _pipeline(seed: int) -> LatentDiffusionPipeline:
    """Volumes of 40 × 48 × 40 voxels."""
    torch.manual_seed(seed)
    vae = MonaiAutoencoderKL(channels=[8, 16, 32], attention_levels=[False] * 3, latent_channels=3, norm_num_groups=8)
    network = {"channels": [32, 64], "num_res_blocks": 1, "attention_levels": [False, True], "num_head_channels": 32}
    unet = ConditionedUNet(
        latent_channels=3,
        sample_size=[10, 12, 10],
        covariates={"age": [20, 90]},
        network={**network, "norm_num_groups": 8},
    )
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction")
    return LatentDiffusionPipeline(vae.eval(), unet.eval(), scheduler, spacing=4.0)


def _command(folder: Path, name: str, processes: int, samples: int = SAMPLES) -> list[str]:
    arguments = ["generate", str(folder / "model"), "--output", str(folder / name)]
    arguments += ["--num-samples", str(samples)]
    arguments += ["--shard-size", str(SHARD), "--num-inference-steps", str(STEPS)]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "--"]
    return [sys.executable, *launch, "meddiffusers.cli", *arguments]


def _timed(folder: Path, name: str, processes: int, samples: int = SAMPLES) -> float:
    began = time.perf_counter()
    subprocess.run(_command(folder, name, processes, samples), check=True, capture_output=True, env=ONE_THREAD)
    return time.perf_counter() - began


def _died(folder: Path, name: str, life: float) -> bool:
    """Resume a run, and kill it after `life` seconds. Returns whether it was still running."""
    process = subprocess.Popen(
        _command(folder, name, 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD
    )
    try:
        process.wait(timeout=life)
        return False
    except subprocess.TimeoutExpired:
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()
        return True


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
