"""convert.monai_bundle against outputs recorded with GenerativeModels' code and MONAI's loading; what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.guided_diffusion_reference import random_weights
from helpers.monai_bundle_reference import UNETS, autoencoder_settings, inputs, recorded, unet_settings
from helpers.recorded_outputs import TOLERANCE, relative_error, with_one_wrong_weight
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler
from typer.testing import CliRunner

from meddiffusers import ConditionedUNet, MonaiAutoencoderKL
from meddiffusers.cli import app
from meddiffusers.convert.monai_bundle import autoencoder_of, convert_bundle, unet_of
from meddiffusers.convert.monai_config import covariate_names, ranges_of
from meddiffusers.convert.monai_weights import has_old_names, includes_fc
from meddiffusers.hub import load

SHAPES, OUTPUTS = recorded()


def current(settings: dict[str, Any]) -> dict[str, Any]:
    return {"channels" if name == "num_channels" else name: value for name, value in settings.items()}


def vae_weights(name: str) -> dict[str, torch.Tensor]:
    return random_weights(SHAPES[f"autoencoder/{name}"])


def unet_weights(name: str) -> dict[str, torch.Tensor]:
    return random_weights(SHAPES[f"unet/{name}"])


def build_vae(name: str, weights: dict[str, torch.Tensor] | None = None) -> MonaiAutoencoderKL:
    return autoencoder_of(weights or vae_weights(name), current(autoencoder_settings(name)), 1.0)


def build_unet(name: str, weights: dict[str, torch.Tensor] | None = None) -> ConditionedUNet:
    return unet_of(weights or unet_weights(name), current(unet_settings(name)))


@torch.no_grad()
def vae_error(name: str, weights: dict[str, torch.Tensor] | None = None) -> float:
    """The largest one of means, standard deviations and decoded images."""
    image, latents, _ = inputs(name)
    vae = build_vae(name, weights)
    posterior = vae.encode(image).latent_dist
    outputs = {"mean": posterior.mean, "deviation": posterior.std, "decoded": vae.decode(latents).sample}
    return max(relative_error(output, OUTPUTS[f"{name}/{part}"]) for part, output in outputs.items())


@torch.no_grad()
def unet_error(name: str, weights: dict[str, torch.Tensor] | None = None) -> float:
    _, latents, covariates = inputs(name)
    conditions = {"covariates": covariates} if covariates.shape[1] else {}
    output = build_unet(name, weights)(latents, torch.tensor([3, 700]), **conditions).sample
    return relative_error(output, OUTPUTS[f"{name}/predicted"])


@pytest.mark.parametrize("name", UNETS)
def test_the_outputs_are_those_of_the_reference(name: str) -> None:
    assert all(OUTPUTS[f"{name}/{part}"].std() > 0.1 for part in ("mean", "decoded", "predicted"))
    assert vae_error(name) <= TOLERANCE
    assert unet_error(name) <= TOLERANCE


@pytest.mark.parametrize("name", UNETS)
@pytest.mark.slow
def test_one_wrong_weight_exceeds_the_tolerance(name: str) -> None:
    for kernel, weights in with_one_wrong_weight(vae_weights(name)):
        assert vae_error(name, weights) > TOLERANCE, kernel
    for kernel, weights in with_one_wrong_weight(unet_weights(name), every=2):
        assert unet_error(name, weights) > TOLERANCE, kernel


@pytest.mark.parametrize("name", UNETS)
def test_old_weights_load_as_in_monai(name: str) -> None:
    weights = random_weights(SHAPES[f"unet/{name}"])
    peer = DiffusionModelUNet(**current(unet_settings(name)), include_fc=includes_fc(weights))
    peer.load_old_state_dict(dict(weights))
    found = build_unet(name).unet.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in peer.state_dict().items())


@pytest.mark.parametrize(("name", "fc"), [("brain", True), ("slices", False)])
def test_the_weights_determine_include_fc(name: str, fc: bool) -> None:
    old = random_weights(SHAPES[f"unet/{name}"])
    assert has_old_names(old) and includes_fc(old) is fc
    for include_fc in (False, True):
        if name == "brain" and not include_fc:
            continue  # transformers always end in a linear map
        new = DiffusionModelUNet(**current(unet_settings(name)), include_fc=include_fc).state_dict()
        assert not has_old_names(new) and includes_fc(new) is include_fc


@pytest.mark.parametrize("name", UNETS)
@pytest.mark.slow
def test_weights_with_current_names_are_kept(name: str) -> None:
    torch.manual_seed(0)
    unet = DiffusionModelUNet(**current(unet_settings(name)))
    vae = AutoencoderKL(**current(autoencoder_settings(name)))
    for found, given in (
        (unet_of(unet.state_dict(), current(unet_settings(name))).unet, unet),
        (autoencoder_of(vae.state_dict(), current(autoencoder_settings(name)), 1.0), vae),
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
    torch.save(random_weights(SHAPES[f"autoencoder/{name}"]), folder / "models" / "autoencoder.pth")
    torch.save(random_weights(SHAPES[f"unet/{name}"]), folder / "models" / "diffusion_model.pth")
    return folder


@pytest.mark.slow
def test_a_bundle_becomes_a_repository(tmp_path: Path) -> None:
    given = ["convert", "monai-bundle", str(bundle(tmp_path / "bundle")), "--output", str(tmp_path / "out")]
    options = ["--scaling-factor", "0.5", "--covariates", "sex,age", "--modalities", "flair", "--spacing", "2"]
    result = CliRunner().invoke(app, [*given, *options])
    assert result.exit_code == 0, result.output
    pipeline: Any = DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.vae.config["scaling_factor"] == 0.5 and pipeline.config["spacing"] == 2
    assert pipeline.modalities == ("flair",) and pipeline.image_range == (0.0, 1.0)
    assert list(pipeline.unet.covariates.items()) == [("sex", [0, 1]), ("age", [0, 1])]
    assert pipeline.unet.config["sample_size"] == [4, 6, 4]
    assert pipeline.scheduler.config["beta_end"] == 0.0205
    latents = torch.randn(1, 3, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = build_vae("brain").decode(latents / 0.5).sample.clamp(0, 1)  # whose intensities lie in [0, 1]
    torch.testing.assert_close(pipeline.decode(latents), expected)
    volume = pipeline(covariates={"sex": 1, "age": 0.3}, num_inference_steps=5, output_type="nifti").images[0]
    assert volume.shape == (8, 12, 8) and volume.header.get_zooms() == (2, 2, 2)


def published_brain(**changes: Any) -> dict[str, Any]:
    """Entries in which the zoo's brain bundle differs from that of `bundle`; it ships inference.json alone."""
    noise = "$torch.randn((1, 3, 20, 28, 20)).to(@device)"
    return {"latent_shape": [], "noise": noise, "network_def": "@autoencoder_def", **changes}


METADATA: dict[str, Any] = {  # of the same bundle, but for 2 covariates and a factor of 2
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "tabular",
                "num_channels": 1,
                "spatial_shape": [40, 56, 40],
                "channel_def": {"0": "Gender", "1": "Ventricular volume"},
            }
        },
        "outputs": {"pred": {"type": "image", "num_channels": 1, "spatial_shape": [40, 56, 40]}},
    }
}
LATENTS: dict[str, Any] = {
    "network_data_format": {"inputs": {"latent": {"num_channels": 3, "spatial_shape": [20, 28, 20]}}, "outputs": {}}
}


def test_the_size_of_the_latents_is_read_from_the_noise(tmp_path: Path) -> None:
    pipeline = convert_bundle(bundle(tmp_path, **published_brain()), scaling_factor=1.0)
    assert pipeline.unet.config["sample_size"] == [20, 28, 20]
    latents = pipeline.prepare_latents(1, torch.Generator().manual_seed(0), None)
    assert latents.shape == (1, 3, 20, 28, 20)


@pytest.mark.parametrize("metadata", [METADATA, LATENTS], ids=["of images", "of latents"])
@pytest.mark.parametrize("noise", ["$torch.randn([1]+@shape)", "", "$torch.randn((1, 9, 4))"])
def test_the_size_of_the_latents_is_read_from_the_metadata(
    tmp_path: Path, metadata: dict[str, Any], noise: str
) -> None:
    folder = bundle(tmp_path, **published_brain(noise=noise))
    with pytest.raises(ValueError, match=r"does not state the size of the latents.* Give --latent-size: 3 numbers"):
        convert_bundle(folder, scaling_factor=1.0)
    assert convert_bundle(folder, scaling_factor=1.0, latent_sides=[8, 8, 12]).unet.config["sample_size"] == [8, 8, 12]
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    pipeline = convert_bundle(folder, scaling_factor=1.0)
    assert pipeline.unet.config["sample_size"] == [20, 28, 20]
    names = ["gender", "ventricular_volume"] if metadata is METADATA else ["covariate_0", "covariate_1"]
    assert list(pipeline.unet.covariates) == names


@pytest.mark.parametrize("shape", [[3, 0, 4, 4], [3, 4, -4, 4], [2, 4, 4, 4]])
def test_sizes_that_are_none_are_no_sizes(tmp_path: Path, shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"does not state the size of the latents"):
        convert_bundle(bundle(tmp_path, latent_shape=shape), scaling_factor=1)


@pytest.mark.parametrize("noise", ["$torch.randn((1, 3, 0, 28, 20))", "$torch.randn((1, 3, 20, 28, 20//2))"])
def test_noise_whose_size_is_not_written_out_is_not_read(tmp_path: Path, noise: str) -> None:
    with pytest.raises(ValueError, match=r"does not state the size of the latents"):
        convert_bundle(bundle(tmp_path, **published_brain(noise=noise)), scaling_factor=1)


@pytest.mark.parametrize("sides", [[0, 4, 4], [4, -4, 4], [4, 4]])
def test_given_sizes_are_positive(tmp_path: Path, sides: list[int]) -> None:
    with pytest.raises(ValueError, match=r"does not state the size of the latents"):
        convert_bundle(bundle(tmp_path), scaling_factor=1, latent_sides=sides)
    arguments = ["convert", "monai-bundle", str(tmp_path), "--output", str(tmp_path / "out"), "--latent-size", "0,4,4"]
    assert "expected positive whole numbers" in str(CliRunner().invoke(app, arguments).exception)


def test_channels_are_named_in_the_order_of_their_numbers() -> None:
    names = {str(number): f"c {number}" for number in (10, 2, 11, *range(2), *range(3, 10))}
    formats = {"condition": {"type": "tabular", "channel_def": names}}
    assert covariate_names(formats, 12) == [f"c_{number}" for number in range(12)]


@pytest.mark.parametrize("names", [{"0": "Age", "1": "age"}, {"0": "", "1": "a"}, {"0": None, "1": {}}])
def test_names_that_are_none_are_left_out(names: dict[str, Any]) -> None:
    formats = {"condition": {"type": "tabular", "channel_def": names}}
    assert covariate_names(formats, 2) == ["covariate_0", "covariate_1"]


def test_the_steps_of_a_bundle_are_kept(tmp_path: Path) -> None:
    entry = {
        "_target_": "monai.networks.schedulers.DDIMScheduler",
        "schedule": "cosine",
        "prediction_type": "@predicted",
    }
    pipeline = convert_bundle(bundle(tmp_path, scheduler=entry, predicted="v_prediction"), scaling_factor=1)
    peer = DDIMScheduler(schedule="cosine")
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, peer.alphas_cumprod, rtol=0, atol=1e-6)
    assert pipeline.config["noise_schedule"]["prediction_type"] == "v_prediction"
    assert pipeline.scheduler.config["clip_sample"] is True  # MONAI's default


@pytest.mark.slow
def test_betas_without_a_name_are_saved_and_loaded(tmp_path: Path) -> None:
    entry = {"_target_": "generative.networks.schedulers.DDIMScheduler", "schedule": "sigmoid_beta"}
    convert_bundle(bundle(tmp_path / "in", scheduler=entry), scaling_factor=1).save_pretrained(tmp_path / "out")
    pipeline: Any = load(tmp_path / "out")
    assert torch.equal(pipeline.scheduler.betas, DDIMScheduler(schedule="sigmoid_beta").betas)
    assert pipeline(num_inference_steps=2, output_type="latent").images.shape == (1, 3, 4, 6, 4)


@pytest.mark.slow
def test_categories_are_named_in_the_configuration(tmp_path: Path) -> None:
    folder, output = bundle(tmp_path / "bundle", **published_brain()), tmp_path / "out"
    given = ["convert", "monai-bundle", str(folder), "--output", str(output), "--scaling-factor", "1"]
    result = CliRunner().invoke(app, [*given, "--latent-size", "4,6,4", "--covariates", "sex=F/M,age=44/82"])
    assert result.exit_code == 0, result.output
    pipeline: Any = DiffusionPipeline.from_pretrained(output)
    assert pipeline.unet.covariates == {"sex": ["F", "M"], "age": [44, 82]}
    assert pipeline.unet.config["sample_size"] == [4, 6, 4]
    rows = [{"sex": "F", "age": 44}, {"sex": "M", "age": 63}]
    assert pipeline.unet.scale_covariates(rows).tolist() == [[0, 0], [1, 0.5]]
    with pytest.raises(ValueError, match=r"sex='X'; expected one of F, M"):
        pipeline(covariates={"sex": "X"})
    numbers = convert_bundle(folder, scaling_factor=1.0, covariates={"sex": [0, 1], "age": [0, 1]})
    with pytest.raises(ValueError, match=r"sex='F'; expected a number from 0 to 1\. Categories must be named"):
        numbers(covariates={"sex": "F"})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["sex=F"], "sex=F'; expected different categories"),
        (["sex=F/F"], "expected different categories"),
        (["age=82/44"], "expected the lowest and the highest"),
        (["age=1/2/3"], "expected the lowest and the highest"),
        (["age", "age=1/2"], "expected names that occur once"),
        (["=1/2"], "expected names that occur once"),
        (["age=0/inf"], "expected the lowest and the highest"),
        (["age=-inf/0"], "expected the lowest and the highest"),
        (["age=nan/3"], "expected the lowest and the highest"),
    ],
)
def test_covariates_that_are_none_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranges_of(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"inference\.json is not valid JSON"),
        ("[]", r"inference\.json holds a list"),
        ('{"a": "@b", "b": "@a", "x": {"_target_": "n.AutoencoderKL", "channels": "@a"}}', "in a circle"),
        ('{"x": {"_target_": "n.AutoencoderKL"}}', "AutoencoderKL lacks channels, in_channels, out_ch"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = bundle(tmp_path)
    (folder / "configs" / "inference.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_bundle(folder, scaling_factor=1)


def test_expressions_are_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"AutoencoderKL has expressions for spatial_dims, which are not"):
        convert_bundle(bundle(tmp_path, dims="$1 + 2"), scaling_factor=1)


def test_the_configuration_may_give_the_scaling_factor(tmp_path: Path) -> None:
    assert convert_bundle(bundle(tmp_path, scale_factor=0.25)).vae.config["scaling_factor"] == 0.25


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {}, "does not state the factor of the latents .* Give --scaling-factor"),
        ({"scale_factor": "$compute(@x)"}, {}, "Give --scaling-factor"),
        ({"dims": "@absent"}, {"scaling_factor": 1}, "refer to @absent, which they do not define"),
        ({}, {"scaling_factor": 0}, r"scale_factor is 0\)\. Give --scaling-factor"),
        ({"scale_factor": -1}, {}, r"scale_factor is -1\)\. Give --scaling-factor"),
        ({"scale_factor": math.nan}, {}, r"scale_factor is nan\)\. Give --scaling-factor"),
        ({"scale_factor": True}, {}, r"scale_factor is True\)\. Give --scaling-factor"),
        ({"dims": "3"}, {"scaling_factor": 1}, "AutoencoderKL has spatial_dims as '3'; expected 2 or 3"),
        ({"dims": 4}, {"scaling_factor": 1}, "AutoencoderKL has spatial_dims as 4; expected 2 or 3"),
        ({}, {"scaling_factor": 1, "modalities": [" "]}, "expected different names, none of them blank"),
        ({}, {"scaling_factor": 1, "latent_sides": [True, 4, 4]}, "does not state the size"),
        ({}, {"scaling_factor": 1, "latent_sides": ["4", "4", "4"]}, "does not state the size"),
        ({}, {"scaling_factor": 1, "latent_sides": [10**9, 4, 4]}, "does not state the size"),
        ({"latent_shape": [3, 5, 7, 5]}, {"scaling_factor": 1}, "expected sides divisible by 2"),
        ({"channels": []}, {"scaling_factor": 1}, r"DiffusionModelUNet has channels as \[\]; expected a list"),
        ({"channels": [8, "$16"]}, {"scaling_factor": 1}, "DiffusionModelUNet has expressions for channels"),
        ({"scheduler": None}, {"scaling_factor": 1}, "have scheduler as None; expected MONAI's DDIMScheduler"),
        ({"autoencoder_def": {}}, {"scaling_factor": 1}, "describe no AutoencoderKL"),
        ({"channels": [8, 32]}, {"scaling_factor": 1}, "weights of a wrong shape"),
        ({}, {"scaling_factor": 1, "covariates": {"age": [0, 1]}}, "2 channels beside the latents' 3 .* got 1 cov"),
        ({}, {"scaling_factor": 1, "modalities": ["t1", "t2"]}, "1 channels for 2 modalities"),
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
