"""The text-to-MR task: its cache, its loss against brute force, and what a short training leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
from helpers.short_run import run
from helpers.small_text_to_mr import small_text_to_mr, text_rows
from torch import Tensor, nn

from meddiffusers import TextToMRPipeline
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts
from meddiffusers.hub.load import load
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.text_to_mr.cache import cached_text
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.task import TextToMRTask

DATA = CaptionedDataConfig(resolution=16)
NEW: dict[str, Any] = {
    "vae_subfolder": "vae",
    "block_out_channels": [16, 32],
    "attention_levels": [1],
    "attention_heads": 2,
    "norm_num_groups": 4,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    yield


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    small_text_to_mr(positions=512, spacing=DATA.spacing).save_pretrained(tmp_path / "repository")
    return tmp_path / "repository"


def task_of(repository: Path, **config: Any) -> TextToMRTask:
    """Of the repository's model, or, with `NEW`, of its autoencoder and text encoder."""
    splits = {"train": text_rows(16), "test": text_rows(8, seed=1)}
    settings = {"pretrained_model_name_or_path": str(repository), "zero_terminal_snr": False, **config}
    if "block_out_channels" in config:
        parts = {"vae_name_or_path": str(repository), "text_encoder_name_or_path": str(repository)}
        settings |= {"pretrained_model_name_or_path": None, **parts}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextToMRTask(DATA, TextToMRConfig(**settings), splits)


class Recorder(nn.Module):
    """In the place of the denoiser: keeps what it is given and predicts a multiple of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor
    ) -> SimpleNamespace:
        self.calls.append((sample, timestep, encoder_hidden_states, encoder_attention_mask))
        return SimpleNamespace(sample=0.3 * sample)


@pytest.mark.slow
def test_a_better_decoder_takes_the_place_of_the_repositorys(repository: Path, tmp_path: Path) -> None:
    vae = load(repository).vae
    vae.decoder.conv_out.bias.data += 1
    vae.save_pretrained(tmp_path / "better")
    task = task_of(repository, vae_name_or_path=str(tmp_path / "better"), vae_subfolder=None)
    torch.testing.assert_close(task.pipeline.vae.decoder.conv_out.bias, vae.decoder.conv_out.bias)
    vae.register_to_config(scaling_factor=2 * vae.config["scaling_factor"])
    vae.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="scaling_factor"):
        task_of(repository, vae_name_or_path=str(tmp_path / "other"), vae_subfolder=None)


@pytest.mark.slow
def test_the_cache_holds_what_the_networks_make() -> None:
    pipeline, rows = small_text_to_mr(positions=512), text_rows(20)
    found = cached_text(rows, pipeline, captions=8)
    for index, view, caption in ((0, 0, 0), (7, 1, 1), (19, 1, 0)):
        item = found.item(index, view, caption)
        image = torch.from_numpy(images_of(rows.select([index])))
        image = image.flip(-1) if view else image
        moments = pipeline.vae.encode(2 * image - 1).latent_dist.parameters[0]
        torch.testing.assert_close(item["moments"], moments.detach(), atol=2e-3, rtol=2e-3)
        states, mask = pipeline.encode_text([item["prompt"]])
        torch.testing.assert_close(item["tokens"], states[0].detach(), atol=2e-3, rtol=2e-3)
        assert mask.all()
        values, known = pipeline.quantity_encoder.read([item["prompt"]])
        assert torch.equal(item["values"].isnan(), ~known[0]) and torch.equal(item["values"][known[0]], values[known])
    names = list(pipeline.quantity_encoder.id2label.values())
    left, right = names.index("left thalamus"), names.index("right thalamus")
    thalami = {
        view: [found.item(3, view, caption)["values"][[left, right]].tolist() for caption in range(8)]
        for view in (0, 1)
    }
    assert [530, 300] in thalami[0] and [300, 530] in thalami[1]  # where a prompt names both
    assert not {(300, 530)} & {tuple(each) for each in thalami[0]}


def test_the_cache_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, rows = small_text_to_mr(positions=512), text_rows(4)
    first = cached_text(rows, pipeline, captions=1)
    monkeypatch.setattr("meddiffusers.training.tasks.text_to_mr.cache._write", None)  # what would be called
    assert torch.equal(cached_text(rows, pipeline, captions=1).item(2, 0, 0)["moments"], first.item(2, 0, 0)["moments"])
    for changed in ({"captions": 2}, {"captions": 1, "seed": 1}):
        with pytest.raises(TypeError, match="not callable"):
            cached_text(rows, pipeline, **changed)
    with torch.no_grad():
        next(pipeline.vae.parameters()).mul_(1.5)
    with pytest.raises(TypeError, match="not callable"):
        cached_text(rows, pipeline, captions=1)


@pytest.mark.parametrize("name", ["moments.npy", "tokens.npy", "ends.npy", "values.npy", "prompts.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
def test_a_damaged_cache_is_made_again(
    name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "own")
    rows, pipeline = text_rows(2), small_text_to_mr()
    expected = cached_text(rows, pipeline, captions=1).item(1, 1, 0)
    (folder,) = (tmp_path / "own" / "meddiffusers-text").iterdir()
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "other":
        other = cached_text(text_rows(3, seed=1), pipeline, captions=1)
        (source,) = set((tmp_path / "own" / "meddiffusers-text").iterdir()) - {folder}
        assert len(other) == 3
        (folder / name).write_bytes((source / name).read_bytes())
    else:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-5] if damage == "cut" else b"")
    found = cached_text(rows, pipeline, captions=1).item(1, 1, 0)
    assert all(torch.equal(found[key], expected[key]) for key in ("moments", "tokens"))
    assert found["prompt"] == expected["prompt"] and f"The cache {folder} is damaged" in caplog.text


def test_shortened_prompts_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cached_text(text_rows(6), small_text_to_mr(positions=30), captions=2)
    messages = [record.getMessage() for record in caplog.records if "left out the smallest" in record.getMessage()]
    assert len(messages) == 1 and int(messages[0].split()[0]) > 1


@pytest.mark.parametrize("kind", ["sample", "v_prediction", "flow"])
@pytest.mark.slow
def test_the_loss_is_the_squared_error(repository: Path, kind: str) -> None:
    task, network = task_of(repository, prompt_dropout=0.0), Recorder()
    task.config.prediction_type = kind  # type: ignore[assignment]
    if kind == "flow":
        task.noise_scheduler = None
    else:
        task.noise_scheduler.register_to_config(prediction_type=kind)
    batch = task.collate([task.train_dataset.item(number, 0, 0) for number in range(8)])
    batch["moments"][:, 2:] = -60  # no spread, so that z is known
    losses = task.loss({"unet": network}, batch, BatchRandom(0))
    [(x_t, times, tokens, mask)] = network.calls
    vae = task.pipeline.vae.config
    z = ((batch["moments"][:, :2] - vae["shift_factor"]) * vae["scaling_factor"]).double()
    if kind == "flow":
        share = (times.double() / 1000).view(-1, 1, 1, 1)
        noise = (x_t - (1 - share) * z) / share
        target = noise - z
    else:
        product = task.noise_scheduler.alphas_cumprod.double()[times].view(-1, 1, 1, 1)
        noise = (x_t - product.sqrt() * z) / (1 - product).sqrt()
        target = z if kind == "sample" else product.sqrt() * noise - (1 - product).sqrt() * z
    assert abs(noise.mean()) < 0.15 and abs(noise.std() - 1) < 0.15
    assert losses["loss"].item() == pytest.approx((0.3 * x_t - target).square().mean().item(), rel=1e-4)
    texts = [task.train_dataset.item(number, 0, 0)["prompt"] for number in range(8)]
    expected, their_mask, *_ = task.pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    assert torch.equal(mask, their_mask)
    torch.testing.assert_close(tokens, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_prompts_that_are_left_out_are_the_empty_text(repository: Path) -> None:
    task, network = task_of(repository, prompt_dropout=1.0), Recorder()
    batch = task.collate([task.train_dataset[number] for number in range(4)])
    task.loss({"unet": network}, batch, BatchRandom(0))
    _, _, tokens, mask = network.calls[0]
    *_, empty, its_mask = task.pipeline.encode_prompt("t1", negative_prompt="")
    real = int(its_mask.sum())
    assert mask.sum(dim=1).tolist() == [real] * 4
    torch.testing.assert_close(tokens[:, :real], empty[:, :real].expand(4, -1, -1), atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_left_out_prompts_go_through_the_text_encoder_that_is_trained(repository: Path) -> None:
    task, network = task_of(repository, rank=2, text_encoder_rank=2, prompt_dropout=1.0), Recorder()
    with torch.no_grad():
        for name, weight in task.pipeline.text_encoder.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    batch = task.collate([task.train_dataset[number] for number in range(4)])
    task.loss({"unet": network, "text_encoder": task.pipeline.text_encoder}, batch, BatchRandom(0))
    _, _, tokens, _ = network.calls[0]
    adapted = task.pipeline.encode_text([""])[0]
    assert not torch.allclose(adapted[0], task.empty, atol=1e-2)
    torch.testing.assert_close(tokens[:, : adapted.shape[1]], adapted.expand(4, -1, -1), atol=1e-4, rtol=1e-4)
    assert not any(weight.requires_grad for weight in task.pipeline.quantity_encoder.parameters())


@pytest.mark.slow
def test_a_short_training_learns_and_leaves_a_pipeline(repository: Path, tmp_path: Path) -> None:
    task = task_of(repository, **NEW, save_in_fp16=True)
    batch = task.collate([task.train_dataset.item(number, 0, 0) for number in range(16)])
    with torch.no_grad():
        before = task.loss(task.modules, batch, BatchRandom(0))["loss"]
    settings = {"max_train_steps": 150, "train_batch_size": 8, "validation_steps": 150, "learning_rate": 5e-3}
    result = run(task, tmp_path / "run", **settings)
    with torch.no_grad():
        assert task.loss(result.modules, batch, BatchRandom(0))["loss"] < 0.85 * before
    pipeline = load(tmp_path / "run")
    assert isinstance(pipeline, TextToMRPipeline)
    for name in ("vae", "text_encoder"):
        old, new = (getattr(each, name).state_dict() for each in (load(repository), pipeline))
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert all(torch.equal(weight, weight.half().float()) for weight in pipeline.unet.state_dict().values())
    assert generate_from_prompts(pipeline, ["t1 weighted brain"], num_inference_steps=2).shape == (1, 16, 16)
    assert list((tmp_path / "run" / "validation").iterdir())
    report = task.evaluate(pipeline)
    assert report.value("nn_distance_held_out") >= 0 and report.figures


@pytest.mark.parametrize("parts", [{"rank": 2}, {"rank": 2, "text_encoder_rank": 2}])
@pytest.mark.slow
def test_an_adapter_is_trained_alone_and_loads(repository: Path, tmp_path: Path, parts: dict[str, int]) -> None:
    before = {file: file.read_bytes() for file in repository.rglob("*.safetensors")}
    task = task_of(repository, **parts)
    run(task, tmp_path / "adapter", max_train_steps=4)
    assert before == {file: file.read_bytes() for file in repository.rglob("*.safetensors")}
    assert [file.name for file in (tmp_path / "adapter").glob("*.safetensors")] == ["pytorch_lora_weights.safetensors"]
    plain, adapted = load(repository), load(repository)
    adapted.load_lora_weights(tmp_path / "adapter", adapter_name="mine")
    texts = ["t1 weighted brain"]
    assert not torch.allclose(
        torch.from_numpy(generate_from_prompts(plain, texts, num_inference_steps=2)),
        torch.from_numpy(generate_from_prompts(adapted, texts, num_inference_steps=2)),
        atol=1e-6,
    )
    changed = not torch.allclose(plain.encode_text(texts)[0], adapted.encode_text(texts)[0], atol=1e-6)
    assert changed == ("text_encoder_rank" in parts)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "epsilon"}, "the noise says nothing about the image"),
        ({"prediction_type": "flow", "snr_gamma": 5.0}, "which is not weighted"),
        ({"rank": 4}, "give --pretrained_model_name_or_path"),
        ({"text_encoder_rank": 4, "pretrained_model_name_or_path": "x"}, "--rank with --text_encoder_rank"),
        ({"prompt_dropout": 1.5}, "prompt_dropout is 1.5"),
    ],
)
def test_settings_that_do_not_fit(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextToMRConfig(**config)


def test_a_new_model_needs_its_parts() -> None:
    with pytest.raises(ValueError, match="a new model needs both"):
        TextToMRTask(DATA, TextToMRConfig(), {"train": text_rows(2)})


@pytest.mark.slow
def test_a_new_model_is_made_of_its_parts(repository: Path) -> None:
    task = task_of(repository, **NEW, zero_terminal_snr=True)
    pipeline = task.pipeline
    assert pipeline.unet.config["cross_attention_dim"] == pipeline.text_encoder.config.hidden_size
    assert pipeline.unet.config["sample_size"] == 8 and pipeline.max_tokens == 512
    assert pipeline.scheduler.alphas_cumprod[-1] < 1e-6
    assert set(task.modules) == {"unet", "quantity_encoder"}
    limits = pipeline.config["prompt_limits"]
    assert limits["modalities"] == "t1 t2" and limits["ranges"]["age"] == [30, 45]
    assert limits["ranges"]["left thalamus"] == limits["ranges"]["right thalamus"] == [0, 650]  # as images are mirrored
    assert {"axial", "brain", "woman"} <= set(limits["words"].split())
