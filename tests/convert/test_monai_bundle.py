"""convert.monai_bundle against outputs recorded with GenerativeModels' code and MONAI's loading; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.guided_diffusion_reference import draw
from helpers.monai_bundle_reference import UNETS, autoencoder_settings, inputs, recorded, unet_settings
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from typer.testing import CliRunner

from meddiffusers import ConditionedUNet, MonaiAutoencoderKL
from meddiffusers.cli import app
from meddiffusers.convert.monai_bundle import autoencoder_of, convert_bundle, unet_of
from meddiffusers.convert.monai_weights import has_old_names, includes_fc

SHAPES, OUTPUTS = recorded()
TOLERANCE = 1e-6  # of the largest output


def today(settings: dict[str, Any]) -> dict[str, Any]:
    return {"channels" if name == "num_channels" else name: value for name, value in settings.items()}


def vae_of(name: str) -> MonaiAutoencoderKL:
    return autoencoder_of(draw(SHAPES[f"autoencoder/{name}"]), today(autoencoder_settings(name)), 1.0)


def denoiser_of(name: str) -> ConditionedUNet:
    return unet_of(draw(SHAPES[f"unet/{name}"]), today(unet_settings(name)))


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max())


@pytest.mark.parametrize("name", UNETS)
@torch.no_grad()
def test_the_outputs_are_those_of_the_reference(name: str) -> None:
    image, latents, covariates = inputs(name)
    vae, unet = vae_of(name), denoiser_of(name)
    found = vae.encode(image).latent_dist
    assert_near(found.mean, OUTPUTS[f"{name}/mean"])
    torch.testing.assert_close(found.std, OUTPUTS[f"{name}/deviation"], rtol=1e-5, atol=1e-6)
    assert_near(vae.decode(latents).sample, OUTPUTS[f"{name}/decoded"])
    told = {"covariates": covariates} if covariates.shape[1] else {}
    assert_near(unet(latents, torch.tensor([3, 700]), **told).sample, OUTPUTS[f"{name}/predicted"])


@pytest.mark.parametrize("name", UNETS)
def test_monai_itself_makes_the_same_of_old_weights(name: str) -> None:
    weights = draw(SHAPES[f"unet/{name}"])
    peer = DiffusionModelUNet(**today(unet_settings(name)), include_fc=includes_fc(weights))
    peer.load_old_state_dict(dict(weights))
    found = denoiser_of(name).unet.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in peer.state_dict().items())


@pytest.mark.parametrize(("name", "fc"), [("brain", True), ("slices", False)])
def test_what_attention_ends_in_is_told_by_the_weights(name: str, fc: bool) -> None:
    old = draw(SHAPES[f"unet/{name}"])
    assert has_old_names(old) and includes_fc(old) is fc
    for include_fc in (False, True):
        if name == "brain" and not include_fc:
            continue  # transformers always end in a linear map
        new = DiffusionModelUNet(**today(unet_settings(name)), include_fc=include_fc).state_dict()
        assert not has_old_names(new) and includes_fc(new) is include_fc


@pytest.mark.parametrize("name", UNETS)
def test_weights_under_todays_names_are_taken_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    unet = DiffusionModelUNet(**today(unet_settings(name)))
    vae = AutoencoderKL(**today(autoencoder_settings(name)))
    for found, given in (
        (unet_of(unet.state_dict(), today(unet_settings(name))).unet, unet),
        (autoencoder_of(vae.state_dict(), today(autoencoder_settings(name)), 1.0), vae),
    ):
        weights = found.state_dict()
        assert weights.keys() == given.state_dict().keys()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in given.state_dict().items())


def bundle(folder: Path, name: str = "brain", **changes: Any) -> Path:
    """As the zoo lays one out; what other values refer to stands beside them."""
    dims, target = UNETS[name]["spatial_dims"], "generative.networks.nets."
    config = {
        "imports": ["$import torch"],
        "device": "$torch.device('cpu')",
        "dims": dims,
        "channels": [8, 16],
        "latent_shape": [3, 4, 6, 4][: dims + 1],
        "autoencoder_def": {
            "_target_": f"{target}AutoencoderKL",
            **autoencoder_settings(name),
            "spatial_dims": "@dims",
        },
        "diffusion_def": {
            "_target_": f"{target}DiffusionModelUNet",
            **unet_settings(name),
            "num_channels": "@channels",
        },
        "scheduler": {"beta_start": 0.0015, "beta_end": 0.0205, "schedule": "scaled_linear_beta"},
        **changes,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(draw(SHAPES[f"autoencoder/{name}"]), folder / "models" / "autoencoder.pth")
    torch.save(draw(SHAPES[f"unet/{name}"]), folder / "models" / "diffusion_model.pth")
    return folder


def test_a_bundle_becomes_a_repository(tmp_path: Path) -> None:
    given = ["convert", "monai-bundle", str(bundle(tmp_path / "bundle")), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*given, "--scaling-factor", "0.5", "--covariates", "sex,age", "--spacing", "2"])
    assert result.exit_code == 0, result.output
    pipeline: Any = DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.vae.config["scaling_factor"] == 0.5 and pipeline.config["spacing"] == 2
    assert list(pipeline.unet.covariates.items()) == [("sex", [0, 1]), ("age", [0, 1])]
    assert pipeline.unet.config["sample_size"] == [4, 6, 4]
    assert pipeline.scheduler.config["beta_end"] == 0.0205
    latents = torch.randn(1, 3, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae_of("brain").decode(latents / 0.5).sample.clamp(0, 1)  # whose intensities lie in [0, 1]
    torch.testing.assert_close(pipeline.decode(latents), expected)
    volume = pipeline(covariates={"sex": 1, "age": 0.3}, num_inference_steps=2, output_type="nifti").images[0]
    assert volume.shape == (8, 12, 8) and volume.header.get_zooms() == (2, 2, 2)


def test_the_configuration_may_give_the_scaling_factor(tmp_path: Path) -> None:
    assert convert_bundle(bundle(tmp_path, scale_factor=0.25)).vae.config["scaling_factor"] == 0.25


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {}, "does not say by what latents are multiplied .* Give --scaling-factor"),
        ({"scale_factor": "$compute(@x)"}, {}, "Give --scaling-factor"),
        ({"dims": "@absent"}, {"scaling_factor": 1}, "refer to @absent, which they do not define"),
        ({"autoencoder_def": {}}, {"scaling_factor": 1}, "describe no AutoencoderKL"),
        ({"channels": [8, 32]}, {"scaling_factor": 1}, "weights of a wrong shape"),
        ({}, {"scaling_factor": 1, "covariates": {"age": [0, 1]}}, "2 channels beside the latents' 3 .* got 1 cov"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, changes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert_bundle(bundle(tmp_path, **changes), **arguments)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds none of inference\.json"):
        convert_bundle(tmp_path, scaling_factor=1)
    (bundle(tmp_path / "b") / "models" / "autoencoder.pth").unlink()
    with pytest.raises(ValueError, match=r"diffusion_model\.pth; expected two files of weights"):
        convert_bundle(tmp_path / "b", scaling_factor=1)
