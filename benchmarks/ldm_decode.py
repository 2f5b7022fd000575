"""Decoding a brain of 160 × 224 × 160 voxels: in slabs, by MONAI as a whole, and by MONAI's sliding windows."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import AutoencoderKL

from meddiffusers import MonaiAutoencoderKL
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.results import Bar

BRAIN: dict[str, Any] = {  # of Pinaya et al. 2022, as the zoo's bundle has it
    "spatial_dims": 3,
    "channels": [64, 128, 128, 128],
    "num_res_blocks": [2, 2, 2, 2],
    "attention_levels": [False] * 4,
    "latent_channels": 3,
    "norm_num_groups": 32,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
LATENTS, WINDOW, OVERLAP = (1, 3, 20, 28, 20), (12, 16, 12), 0.25
IMAGE = Path("benchmarks/results/ldm_decode.png")
WAYS = ("slabs", "whole", "windows")


def decode(_checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars: peak memory, each way in a process of its own; time in turn; the largest difference to the whole."""
    peaks = {way: _peak(way, seed) for way in WAYS}
    print(peaks, flush=True)
    decoded, seconds = {}, {}
    for name in WAYS:
        decoding = _way(name, seed)
        began = time.perf_counter()
        decoded[name] = decoding()
        seconds[name] = time.perf_counter() - began
        print(name, seconds[name], flush=True)
    span = float(decoded["whole"].max() - decoded["whole"].min())
    difference = {name: float((decoded[name] - decoded["whole"]).abs().max()) / span for name in ("slabs", "windows")}
    middle = {name: volume[0, 0, :, :, volume.shape[-1] // 2].T.numpy() for name, volume in decoded.items()}
    errors = {f"{name} − whole, × 100": abs(middle[name] - middle["whole"]) * 100 / span for name in difference}
    rows = {name: [image] for name, image in {**middle, **errors}.items()}
    panel(rows, tile=2.0, ranges=dict.fromkeys(errors, (0.0, 1.0))).save(IMAGE)
    bars = [
        Bar("decode: peak memory in slabs, GiB", peaks["slabs"], "<=", 4),
        Bar("decode: time in slabs, over MONAI's whole", seconds["slabs"] / seconds["whole"], "<=", 1.3),
        Bar("decode: largest difference to the whole, of the range", difference["slabs"], "<=", 0.01),
    ]
    return bars, {"n": 1, "peak GiB": peaks, "seconds": seconds, "largest difference": difference}


@torch.inference_mode()
def _way(name: str, seed: int) -> Callable[[], torch.Tensor]:
    """The same random latents, decoded by the same random weights, one way."""
    torch.manual_seed(seed)
    ours: Any = MonaiAutoencoderKL(**BRAIN).eval()
    z = torch.randn(LATENTS)
    if name == "slabs":
        return torch.inference_mode()(lambda: ours.decode(z).sample)
    peer: Any = AutoencoderKL(**BRAIN).eval()
    peer.load_state_dict(ours.state_dict())
    windows = SlidingWindowInferer(WINDOW, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    calls = {"whole": lambda: peer.decode(z), "windows": lambda: windows(z, peer.decode)}
    return torch.inference_mode()(calls[name])


def _peak(way: str, seed: int) -> float:
    """GiB that a process which decodes this way, and nothing else, had at most."""
    done = subprocess.run([sys.executable, __file__, way, str(seed)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    _way(sys.argv[1], int(sys.argv[2]))()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
