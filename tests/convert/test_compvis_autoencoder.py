"""convert.compvis_autoencoder against outputs recorded with MedVAE's code, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.compvis_autoencoder_reference import NETWORKS, inputs, recorded
from helpers.guided_diffusion_reference import draw
from safetensors.torch import save_file
from typer.testing import CliRunner

from meddiffusers.cli import app
from meddiffusers.convert.compvis_autoencoder import autoencoder_config, autoencoder_of, convert_autoencoder

SHAPES, OUTPUTS = recorded()
TOLERANCE = 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_of_the_reference(name: str) -> None:
    vae = autoencoder_of(draw(SHAPES[name]), sample_size=16)
    image, latents = inputs(NETWORKS[name])
    with torch.no_grad():
        found = {"moments": vae.encode(image).latent_dist.parameters, "decoded": vae.decode(latents).sample}
    for part, tensor in found.items():
        expected = OUTPUTS[f"{name}/{part}"]
        assert expected.std() > 0.1
        assert (tensor - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max())


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
    weights = draw(SHAPES["grey"])
    save_file(weights, tmp_path / "bare.safetensors")
    torch.save({"state_dict": weights, "epoch": torch.tensor(3)}, tmp_path / "lightning.ckpt")
    expected = autoencoder_of(weights).state_dict()
    for file in ("bare.safetensors", "lightning.ckpt"):
        found = convert_autoencoder(tmp_path / file).state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_other_networks_are_refused() -> None:
    weights = draw(SHAPES["grey"])
    with pytest.raises(ValueError, match="not the weights of an autoencoder"):
        autoencoder_of(draw(SHAPES["attention between"]))
    with pytest.raises(ValueError, match="not the weights of an autoencoder"):
        autoencoder_of({"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights missing: decoder\.norm_out\.bias; left over: none"):
        autoencoder_of({name: tensor for name, tensor in weights.items() if name != "decoder.norm_out.bias"})
    with pytest.raises(ValueError, match=r"left over: decoder\.more"):
        autoencoder_of({**weights, "decoder.more": torch.zeros(1)})
    with pytest.raises(ValueError, match="the encoder gives 2 channels, the latents' moments have 6"):
        autoencoder_of({**weights, "quant_conv.weight": torch.zeros(6, 2, 1, 1)})


def test_the_command_writes_what_diffusers_opens(tmp_path: Path) -> None:
    save_file(draw(SHAPES["grey"]), tmp_path / "weights.safetensors")
    arguments = ["convert", "autoencoder", str(tmp_path / "weights.safetensors"), "--output", str(tmp_path / "vae")]
    result = CliRunner().invoke(app, [*arguments, "--image-size", "16"])
    assert result.exit_code == 0, result.output
    found, expected = AutoencoderKL.from_pretrained(tmp_path / "vae"), autoencoder_of(draw(SHAPES["grey"]))
    assert found.config["sample_size"] == 16
    assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in found.state_dict().items())
