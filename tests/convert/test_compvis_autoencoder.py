"""convert.compvis_autoencoder against outputs recorded with MedVAE's code, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.compvis_autoencoder_reference import NETWORKS, inputs, recorded
from helpers.guided_diffusion_reference import random_weights
from helpers.recorded_outputs import TOLERANCE, relative_error, with_one_wrong_weight
from safetensors.torch import save_file
from typer.testing import CliRunner

from meddiffusers.cli import app
from meddiffusers.convert.compvis_autoencoder import autoencoder_config, autoencoder_of, convert_autoencoder

SHAPES, OUTPUTS = recorded()


@torch.no_grad()
def error(name: str, weights: dict[str, torch.Tensor]) -> float:
    """The largest one of moments and decoded images."""
    vae = autoencoder_of(weights, sample_size=16)
    image, latents = inputs(NETWORKS[name])
    outputs = {"moments": vae.encode(image).latent_dist.parameters, "decoded": vae.decode(latents).sample}
    return max(relative_error(output, OUTPUTS[f"{name}/{part}"]) for part, output in outputs.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_of_the_reference(name: str) -> None:
    assert all(OUTPUTS[f"{name}/{part}"].std() > 0.1 for part in ("moments", "decoded"))
    assert error(name, random_weights(SHAPES[name])) <= TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_one_wrong_weight_exceeds_the_tolerance(name: str) -> None:
    used = {key: shape for key, shape in SHAPES[name].items() if not key.startswith("channel_")}
    for kernel, weights in with_one_wrong_weight(random_weights(used), every=3):
        assert error(name, weights) > TOLERANCE, kernel


def test_medvae_has_all_its_weights() -> None:
    hollow = {key: torch.empty(shape, device="meta") for key, shape in SHAPES["medvae"].items()}
    config = autoencoder_config(hollow)
    assert config["block_out_channels"] == (128, 256, 512) and config["latent_channels"] == 1
    assert config["layers_per_block"] == 2 and config["mid_block_add_attention"]
    kept = [name for name in hollow if not name.startswith(("channel_ds", "channel_proj"))]
    with torch.device("meta"):
        vae = autoencoder_of({name: torch.empty(SHAPES["medvae"][name], device="meta") for name in kept}, 256)
    assert vae.num_parameters() == sum(hollow[name].numel() for name in kept)


def test_a_file_may_hold_the_weights_under_a_name(tmp_path: Path) -> None:
    weights = random_weights(SHAPES["grey"])
    save_file(weights, tmp_path / "bare.safetensors")
    torch.save({"state_dict": weights, "epoch": torch.tensor(3)}, tmp_path / "lightning.ckpt")
    expected = autoencoder_of(weights).state_dict()
    for file in ("bare.safetensors", "lightning.ckpt"):
        found = convert_autoencoder(tmp_path / file).state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_other_networks_are_refused() -> None:
    weights = random_weights(SHAPES["grey"])
    with pytest.raises(ValueError, match="not the weights of an autoencoder"):
        autoencoder_of(random_weights(SHAPES["attention between"]))
    with pytest.raises(ValueError, match="not the weights of an autoencoder"):
        autoencoder_of({"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights missing: decoder\.norm_out\.bias; left over: none"):
        autoencoder_of({name: tensor for name, tensor in weights.items() if name != "decoder.norm_out.bias"})
    with pytest.raises(ValueError, match=r"left over: decoder\.more"):
        autoencoder_of({**weights, "decoder.more": torch.zeros(1)})
    with pytest.raises(ValueError, match="the encoder gives 2 channels, the latents' moments have 6"):
        autoencoder_of({**weights, "quant_conv.weight": torch.zeros(6, 2, 1, 1)})


def test_the_command_writes_what_diffusers_opens(tmp_path: Path) -> None:
    save_file(random_weights(SHAPES["grey"]), tmp_path / "weights.safetensors")
    arguments = ["convert", "autoencoder", str(tmp_path / "weights.safetensors"), "--output", str(tmp_path / "vae")]
    result = CliRunner().invoke(app, [*arguments, "--image-size", "16"])
    assert result.exit_code == 0, result.output
    found, expected = AutoencoderKL.from_pretrained(tmp_path / "vae"), autoencoder_of(random_weights(SHAPES["grey"]))
    assert found.config["sample_size"] == 16
    assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in found.state_dict().items())
