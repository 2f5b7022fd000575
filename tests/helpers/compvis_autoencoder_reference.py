"""Autoencoders of MedVAE's code: random weights by name and shape, and what the reference computes with them.

`tests/convert/fixtures/compvis_autoencoder.safetensors` holds names and shapes of the weights of every network below
(in the metadata, as JSON), and, of `NETWORKS`, moments and decoded images. With the reference's wheel unpacked
(https://pypi.org/project/medvae), it is recorded anew by

    PYTHONPATH=tests python tests/helpers/compvis_autoencoder_reference.py FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from helpers.guided_diffusion_reference import random_weights
from safetensors import safe_open
from safetensors.torch import save_file

FIXTURE = Path(__file__).parents[1] / "convert" / "fixtures" / "compvis_autoencoder.safetensors"
SIZE = 16  # of the images, in pixels

DEFAULTS: dict[str, Any] = {  # of the reference's ddconfig
    "double_z": True,
    "z_channels": 1,
    "resolution": SIZE,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 32,
    "ch_mult": (1, 2),
    "num_res_blocks": 1,
    "attn_resolutions": (),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "grey": {},
    "three levels": {"ch_mult": (1, 2, 2), "num_res_blocks": 2, "z_channels": 4},
    "colours without attention": {"in_channels": 3, "out_ch": 3, "attn_type": "none"},
}
MEDVAE: dict[str, Any] = {"resolution": 256, "ch": 128, "ch_mult": (1, 2, 4), "num_res_blocks": 2}  # medvae_4_1_2d
INEXPRESSIBLE: dict[str, Any] = {"attn_resolutions": (8,)}


def inputs(network: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, C, 16, 16) and latents of their shape."""
    settings, random = DEFAULTS | network, np.random.RandomState(1)
    side = SIZE // 2 ** (len(settings["ch_mult"]) - 1)
    shapes = ((2, settings["in_channels"], SIZE, SIZE), (2, settings["z_channels"], side, side))
    one, other = (torch.from_numpy(random.uniform(-1, 1, shape)).float() for shape in shapes)
    return one, other


def recorded() -> tuple[dict[str, dict[str, list[int]]], dict[str, torch.Tensor]]:
    """Of every network, names and shapes of the weights; of `NETWORKS`, the outputs "NAME/moments", "NAME/decoded"."""
    with safe_open(FIXTURE, "pt") as file:
        shapes = {name: json.loads(text) for name, text in file.metadata().items()}
        return shapes, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dictionary)


def record(reference: str) -> None:
    """Write the fixture."""
    for name in ("medvae", "medvae.models", "medvae.utils", "medvae.utils.vae"):  # which import much else
        package = ModuleType(name)
        package.__path__ = [str(Path(reference, *name.split(".")))]
        sys.modules[name] = package
    kind = importlib.import_module("medvae.models.autoencoder_kl").AutoencoderKL
    shapes, outputs = {}, {}
    for name, network in {**NETWORKS, "medvae": MEDVAE, "attention between": INEXPRESSIBLE}.items():
        settings = DEFAULTS | network
        vae = kind(settings, embed_dim=settings["z_channels"]).eval()
        shapes[name] = {key: list(tensor.shape) for key, tensor in vae.state_dict().items()}
        if name in NETWORKS:
            vae.load_state_dict(random_weights(shapes[name]))
            image, latents = inputs(network)
            with torch.no_grad():
                outputs[f"{name}/moments"] = vae.encode_moments(image)[0].contiguous()
                outputs[f"{name}/decoded"] = vae.decode(latents).contiguous()
    save_file(outputs, FIXTURE, {name: json.dumps(entry) for name, entry in shapes.items()})


if __name__ == "__main__":
    record(sys.argv[1])
