"""A text-to-MR pipeline of a few thousand weights, whose tokenizer knows single characters and some words."""

from __future__ import annotations

import string
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np
from contracts.pipeline_contract import seeded
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import BertConfig, BertModel, BertTokenizer

from meddiffusers import QuantityEncoder, TextToMRPipeline
from meddiffusers.data.prompts import SliceFacts
from meddiffusers.datasets.captioned_slices import row_features
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "t1", "t2", "weighted", "brain", "left", "right", "thalamus"]
WORDS = {token: number for number, token in enumerate([*TOKENS, *string.digits, *(f"##{d}" for d in string.digits)])}
WIDTH, POSITIONS = 16, 24


def small_text_to_mr(quantities: bool = True, positions: int = POSITIONS, **config: Any) -> TextToMRPipeline:
    """Images of 16², latents of 8²; equal weights at every call."""
    with seeded():
        vae = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=2,
            norm_num_groups=2,
            sample_size=16,
            scaling_factor=0.7,
            shift_factor=0.3,
        ).eval()
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=2,
            out_channels=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(4, 8),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=2,
        ).eval()
        bert = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=positions,
        )
        text_encoder = BertModel(bert).eval()
        names = ["age", "left thalamus", "right thalamus"]
        encoder = QuantityEncoder(names, cross_attention_dim=WIDTH, hidden_dim=8).eval() if quantities else None
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction")
    tokenizer = BertTokenizer(vocab=WORDS, model_max_length=positions)
    pipeline = TextToMRPipeline(vae, text_encoder, tokenizer, unet, scheduler, encoder, **config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def text_rows(count: int, seed: int = 0) -> datasets.Dataset:
    """Slices of 16² pixels: bright or dark, as their modality says, on the left more than on the right."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        bright = index % 2 == 0
        image = np.zeros((1, 16, 16))
        image[:, 4:12, 3:12] = (0.7 if bright else 0.3) + 0.1 * rng.uniform()
        image[:, 4:12, 3:6] *= 0.5
        facts = SliceFacts("t1" if bright else "t2", "F", 30 + index, volumes={10: 500 + 10 * index, 49: 300})
        voxel: dict[str, Any] = {"voxel": None, "volumes": [{"label": k, "mm3": v} for k, v in facts.volumes.items()]}
        rows.append(
            {
                "image": np.rint(INTENSITY_SCALE * image).astype(np.int16),
                "regions": np.zeros((16, 16), np.int16),
                "facts": {**asdict(facts), **voxel},
                "subject": f"{seed}-{index}",
            }
        )
    return datasets.Dataset.from_list(rows, features=row_features((16, 16)))
