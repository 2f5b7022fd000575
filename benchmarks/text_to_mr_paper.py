"""The paper's configurations: latents of 64², 512 tokens of width 768, one training step and one image.

A BERT with random weights and the shape of BiomedBERT replaces BiomedBERT.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from transformers import BertConfig, BertModel

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.evaluation.results import Bar
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, build_autoencoder
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig, build_text_to_mr_pipeline
from meddiffusers.training.tasks.text_to_mr.vocabulary import prompt_tokenizer

VAE, MODEL = "training/configs/autoencoder_paper.yaml", "training/configs/text_to_mr_paper.yaml"
TOKENS, WIDTH, LATENT = 512, 768, 64


def paper(_checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """One training step of the denoiser on noise, and an image in two steps."""
    set_seed(seed)
    data, autoencoder, _ = parse_config(CaptionedDataConfig, AutoencoderConfig, TrainingConfig, argv=["--config", VAE])
    vae: Any = build_autoencoder(autoencoder, resolution=data.resolution)
    with tempfile.TemporaryDirectory() as folder:
        vae.save_pretrained(Path(folder, "vae"))
        BertModel(BertConfig(vocab_size=30522)).save_pretrained(Path(folder, "text", "text_encoder"))
        prompt_tokenizer(["T1-weighted"]).save_pretrained(Path(folder, "text", "tokenizer"))
        parts = ["--vae_name_or_path", f"{folder}/vae", "--text_encoder_name_or_path", f"{folder}/text"]
        data, model, _ = parse_config(
            CaptionedDataConfig, TextToMRConfig, TrainingConfig, argv=["--config", MODEL, *parts]
        )
        pipeline: Any = build_text_to_mr_pipeline(data, model)
    tokens, mask = torch.randn(1, TOKENS, WIDTH), torch.ones(1, TOKENS, dtype=torch.long)
    latents, noise = torch.randn(2, 1, autoencoder.latent_channels, LATENT, LATENT)
    start = time.perf_counter()
    predicted = pipeline.unet(latents, 500, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample
    loss = (predicted - noise).square().mean()
    loss.backward()
    torch.optim.SGD(pipeline.unet.parameters(), lr=1e-5).step()
    trained, start = time.perf_counter() - start, time.perf_counter()
    image = pipeline("T1-weighted", num_inference_steps=2, guidance_scale=1, output_type="pt").images
    sampled = time.perf_counter() - start
    shape = float(tuple(image.shape) == (1, 1, 256, 256) and pipeline.unet.config["cross_attention_dim"] == WIDTH)
    finite = float(loss.isfinite() and image.isfinite().all())
    counts = {name: sum(weight.numel() for weight in getattr(pipeline, name).parameters()) for name in ("vae", "unet")}
    bars = [
        Bar("paper: 256² pixels, 64² latents, tokens of 768", shape, "==", 1),
        Bar("paper: a training step and two sampling steps are finite", finite, "==", 1),
    ]
    return bars, {"n": 1, "parameters": counts, "seconds of a training step": trained, "seconds of an image": sampled}
