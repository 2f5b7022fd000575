"""Networks of MONAI's GenerativeModels: random weights by name and shape, and what the reference computes with them.

`tests/convert/fixtures/monai_bundle.safetensors` holds names and shapes of the weights of every network below (in the
metadata, as JSON), and the outputs of `AUTOENCODERS` and `UNETS`. With the reference checked out
(https://github.com/Project-MONAI/GenerativeModels), it is recorded anew by

    PYTHONPATH=tests python tests/helpers/monai_bundle_reference.py FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.guided_diffusion_reference import random_weights
from safetensors import safe_open
from safetensors.torch import save_file

FIXTURE = Path(__file__).parents[1] / "convert" / "fixtures" / "monai_bundle.safetensors"
SIDE = 4  # of the latents; tokens of one number each stand for covariates

# Arguments of the reference's classes; the kinds of attention are those of the zoo's bundles.
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "brain": {"spatial_dims": 3, "attention": False, "latent_channels": 3},
    "slices": {"spatial_dims": 2, "attention": True, "latent_channels": 1},
}
UNETS: dict[str, dict[str, Any]] = {
    "brain": {
        "spatial_dims": 3,
        "in_channels": 5,
        "out_channels": 3,
        "resblock_updown": True,
        "num_head_channels": [0, 16],
        "with_conditioning": True,
        "transformer_num_layers": 1,
        "cross_attention_dim": 2,
        "upcast_attention": True,
    },
    "slices": {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_head_channels": [0, 8]},
}


def autoencoder_settings(name: str) -> dict[str, Any]:
    """Of the reference's AutoencoderKL."""
    given = dict(AUTOENCODERS[name])
    attends = given.pop("attention")
    shared = {"in_channels": 1, "out_channels": 1, "num_channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4}
    flags = dict.fromkeys(("with_encoder_nonlocal_attn", "with_decoder_nonlocal_attn"), attends)
    return {**shared, "norm_eps": 1e-6, "attention_levels": [False, False], **flags, **given}


def unet_settings(name: str) -> dict[str, Any]:
    """Of the reference's DiffusionModelUNet."""
    shared = {"num_channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": [False, True]}
    return {**shared, **UNETS[name]}


def inputs(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an image (2, 1, …), latents (2, c, …) and covariates (2, K)."""
    settings, random = unet_settings(name), np.random.RandomState(2)
    dims, count = settings["spatial_dims"], settings["in_channels"] - settings["out_channels"]
    shapes = ((2, 1, *(2 * SIDE,) * dims), (2, settings["out_channels"], *(SIDE,) * dims), (2, count))
    image, latents, covariates = (torch.from_numpy(random.uniform(0, 1, shape)).float() for shape in shapes)
    return image, latents, covariates


def recorded() -> tuple[dict[str, dict[str, list[int]]], dict[str, torch.Tensor]]:
    """Names and shapes of the weights of "autoencoder/NAME" and "unet/NAME", and the outputs by what they are."""
    with safe_open(FIXTURE, "pt") as file:
        shapes = {name: json.loads(text) for name, text in file.metadata().items()}
        return shapes, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dictionary)


@torch.no_grad()
def record(reference: str) -> None:
    """Write the fixture."""
    sys.path.insert(0, reference)
    nets = "generative.networks.nets."
    autoencoder = importlib.import_module(f"{nets}autoencoderkl").AutoencoderKL
    unet = importlib.import_module(f"{nets}diffusion_model_unet").DiffusionModelUNet
    shapes, outputs = {}, {}
    for name in UNETS:
        image, latents, covariates = inputs(name)
        vae, denoiser = autoencoder(**autoencoder_settings(name)).eval(), unet(**unet_settings(name)).eval()
        for key, network in ((f"autoencoder/{name}", vae), (f"unet/{name}", denoiser)):
            shapes[key] = {weight: list(tensor.shape) for weight, tensor in network.state_dict().items()}
            network.load_state_dict(random_weights(shapes[key]))
        mean, deviation = vae.encode(image)
        outputs |= {f"{name}/mean": mean, f"{name}/deviation": deviation, f"{name}/decoded": vae.decode(latents)}
        conditions = covariates.view(*covariates.shape, *(1,) * (latents.ndim - 2)).expand(-1, -1, *latents.shape[2:])
        context = covariates[:, None] if covariates.shape[1] else None
        times = torch.tensor([3, 700])
        outputs[f"{name}/predicted"] = denoiser(torch.cat([latents, conditions], dim=1), times, context=context)
    contiguous = {name: tensor.contiguous() for name, tensor in outputs.items()}
    save_file(contiguous, FIXTURE, {name: json.dumps(entry) for name, entry in shapes.items()})


if __name__ == "__main__":
    record(sys.argv[1])
