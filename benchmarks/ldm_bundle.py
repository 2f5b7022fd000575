"""The brain bundle of MONAI's zoo in full size: built, filled with random weights of old names, two steps, decoded."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ldm_decode import BRAIN, LATENTS
from monai.networks.nets import DiffusionModelUNet

from meddiffusers import MonaiAutoencoderKL
from meddiffusers.convert.monai_bundle import convert_bundle
from meddiffusers.evaluation.results import Bar

UNET: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 7,
    "out_channels": 3,
    "num_channels": [256, 512, 768],
    "num_res_blocks": 2,
    "attention_levels": [False, True, True],
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
    "resblock_updown": True,
    "num_head_channels": [0, 512, 768],
    "with_conditioning": True,
    "transformer_num_layers": 1,
    "cross_attention_dim": 4,
    "upcast_attention": True,
}
COVARIATES = {name: [0.0, 1.0] for name in ("sex", "age", "ventricular_volume", "brain_volume")}


def bundle(_checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars: weights of old names arrive unchanged, and the pipeline generates."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = _write(folder)
        pipeline: Any = convert_bundle(folder, scaling_factor=1.0, covariates=COVARIATES, spacing=1.0)
    changed = sum(not torch.equal(weight, pipeline.unet.unet.state_dict()[name]) for name, weight in given.items())
    counts = {name: sum(w.numel() for w in getattr(pipeline, name).parameters()) for name in ("vae", "unet")}
    pipeline.set_progress_bar_config(disable=True)
    began = time.perf_counter()
    covariates = {"sex": 0, "age": 0.1, "ventricular_volume": 0.2, "brain_volume": 0.4}
    generator = torch.Generator().manual_seed(seed)
    volume = pipeline(covariates=covariates, num_inference_steps=2, generator=generator, output_type="pt").images
    seconds = time.perf_counter() - began
    whole = float(tuple(volume.shape) == (1, 1, 160, 224, 160) and bool(volume.isfinite().all()))
    bars = [
        Bar("bundle: weights that are not those of the file", changed, "==", 0),
        Bar("bundle: parameters of the denoiser, millions", counts["unet"] / 1e6, ">=", 553),
        Bar("bundle: two steps and a decoding give a finite brain of 160 × 224 × 160", whole, "==", 1),
    ]
    return bars, {"n": 1, "parameters": counts, "seconds of two steps and a decoding": seconds}


def _write(folder: Path) -> dict[str, torch.Tensor]:
    """A bundle of that configuration with random weights under old names; returns them under today's."""
    settings = {("channels" if name == "num_channels" else name): value for name, value in UNET.items()}
    unet = DiffusionModelUNet(**settings, include_fc=True)
    for weight in unet.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    weights = unet.state_dict()
    vae = MonaiAutoencoderKL(**BRAIN)
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    torch.save({_old(name): weight for name, weight in weights.items()}, folder / "models" / "diffusion_model.pth")
    torch.save({_old(name): weight for name, weight in vae.state_dict().items()}, folder / "models" / "autoencoder.pth")
    target = "generative.networks.nets."
    config = {
        "latent_shape": list(LATENTS[1:]),
        "autoencoder_def": {"_target_": f"{target}AutoencoderKL", "in_channels": 1, "out_channels": 1, **BRAIN},
        "diffusion_def": {"_target_": f"{target}DiffusionModelUNet", **UNET},
        "scheduler": {"beta_start": 0.0015, "beta_end": 0.0205, "schedule": "scaled_linear_beta"},
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    return weights


def _old(name: str) -> str:
    """As GenerativeModels named it."""
    return name.replace(".out_proj.", ".to_out.0.").replace(".postconv.", ".conv.")
