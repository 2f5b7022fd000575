"""The segmentation loss against brute force: its terms, its noise samples, and several processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.training import BatchRandom
from meddiffusers.training.losses.diffusion import vlb
from meddiffusers.training.tasks.segmentation import loss as loss_module
from meddiffusers.training.tasks.segmentation.loss import SegmentationDiffusionLoss
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig, build_segmentation_pipeline

SIZE = 16
KINDS = ["sample", "epsilon", "v_prediction"]


def loss_of(
    classes: tuple[str, ...] = ("disc",), modalities: tuple[str, ...] = ("grey",), **model: Any
) -> SegmentationDiffusionLoss:
    data = LabelledDataConfig(modalities=list(modalities), classes=list(classes), resolution=SIZE)
    config = SegmentationModelConfig(block_out_channels=[4, 8], norm_num_groups=2, **model)
    return SegmentationDiffusionLoss(build_segmentation_pipeline(data, config), config)


def batch_of(count: int = 4, channels: int = 1) -> dict[str, Tensor]:
    """Bright discs; the second rater goes 1 pixel further than the first."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    radius, row, column = (rng.uniform(*ends, (count, 1, 1)) for ends in ((3, 5), (6, 10), (6, 10)))
    depth = radius - np.hypot(y - row, x - column)
    shades = np.where(depth[:, None] >= 0, 0.8, 0.3) + rng.uniform(-0.1, 0.1, (count, channels, SIZE, SIZE))
    masks = np.stack([depth >= 0, depth >= -1], axis=1).astype(np.uint8)
    return {"image": torch.from_numpy(shades).float(), "masks": torch.from_numpy(masks)}


def labelled(classes: int) -> dict[str, Tensor]:
    """Of one rater, who has as many labels."""
    batch = batch_of()
    return {**batch, "masks": batch["masks"].sum(dim=1, keepdim=True).clamp_max(classes).to(torch.uint8)}


class Recorder(nn.Module):
    """In the place of the network: keeps what it is given and predicts a multiple of it."""

    def __init__(self, per_mask: int = 1, logits: Tensor | None = None, prior_logits: Tensor | None = None) -> None:
        super().__init__()
        self.per_mask, self.logits, self.prior_logits, self.calls = per_mask, logits, prior_logits, []

    def forward(self, sample: Tensor, timestep: Tensor, image: Tensor) -> SimpleNamespace:
        self.calls.append((sample, timestep, image))
        predicted = 0.3 * torch.cat([sample] * self.per_mask, dim=1)
        return SimpleNamespace(sample=predicted, logits=self.logits, prior_logits=self.prior_logits)


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are not moved, so that masks are those of the data."""
    monkeypatch.setattr(loss_module, "random_affine", lambda image, masks, random: (image, masks))


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [None, 2.0])
@pytest.mark.parametrize("ends", [[-1.0, 1.0], [0.0, 1.0]])
def test_it_is_the_weighted_squared_error(kind: str, gamma: float | None, ends: list[float]) -> None:
    loss = loss_of(prediction_type=kind, snr_gamma=gamma, mask_range=ends, noise_samples=3)
    batch, network = labelled(1), Recorder()
    losses = loss(network, batch, BatchRandom(0))
    [(x_t, times, image)] = network.calls
    assert x_t.shape == (12, 1, SIZE, SIZE) and image.shape == (4, 1, SIZE, SIZE)
    low, high = ends
    x0 = (low + (high - low) * batch["masks"].double()).repeat_interleave(3, dim=0)
    product = (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(dim=0)[times].view(-1, 1, 1, 1)
    noise = (x_t - product.sqrt() * x0) / (1 - product).sqrt()
    target = {"sample": x0, "epsilon": noise, "v_prediction": product.sqrt() * noise - (1 - product).sqrt() * x0}
    squared = (0.3 * x_t - target[kind]).square().flatten(1).mean(dim=1)
    snr = (product / (1 - product)).flatten()
    scale = {"sample": torch.ones(12), "epsilon": snr, "v_prediction": snr + 1}[kind]
    weights = snr.clamp(max=gamma) / scale if gamma else torch.ones(12)
    assert losses.keys() == {"loss", "mse"}
    assert losses["mse"].item() == pytest.approx(squared.mean().item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx((weights * squared).mean().item(), rel=1e-3)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("kind", KINDS)
def test_a_learnt_variance_adds_the_bound(kind: str) -> None:
    loss = loss_of(prediction_type=kind, variance_type="learned_range")
    assert loss.pipeline.scheduler.config["variance_type"] == "learned_range"
    batch, network = labelled(1), Recorder(per_mask=2)
    losses = loss(network, batch, BatchRandom(0))
    [(x_t, times, _)] = network.calls
    x0 = 2.0 * batch["masks"] - 1
    bound = vlb(loss.noise_scheduler, torch.cat([0.3 * x_t] * 2, dim=1), x0, x_t, times).mean()
    torch.testing.assert_close(losses["vlb"], bound)
    torch.testing.assert_close(losses["loss"], losses["mse"] + bound)  # a thousandth of the bound of 1000 steps


@pytest.mark.usefixtures("unmoved")
def test_several_labels_are_one_hot() -> None:
    loss, batch = loss_of(classes=("a", "b")), labelled(2)
    network = Recorder()
    losses = loss(network, batch, BatchRandom(0))
    [(x_t, _, _)] = network.calls
    x0 = torch.cat([2.0 * (batch["masks"] == label) - 1 for label in range(3)], dim=1)
    torch.testing.assert_close(losses["mse"], (0.3 * x_t - x0).square().mean())


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("classes", [("disc",), ("a", "b")])
def test_labels_are_learnt_by_cross_entropy_and_prior_logits_by_dice_too(classes: tuple[str, ...]) -> None:
    loss, batch = (
        loss_of(classes=classes, dice_weight=0.5, noise_samples=2, image_block_out_channels=[16]),
        labelled(len(classes)),
    )
    channels, labels = loss.pipeline.mask_channels, batch["masks"][:, 0].repeat_interleave(2, dim=0)
    generator = torch.Generator().manual_seed(3)
    logits, prior_logits = (torch.randn(count, channels, SIZE, SIZE, generator=generator) for count in (8, 4))
    network = Recorder(logits=logits, prior_logits=prior_logits)
    losses = loss(network, batch, BatchRandom(0))
    cases = {"denoising": (logits, 0.0), "prior": (prior_logits.repeat_interleave(2, dim=0), 0.5)}
    for name, (given, weight) in cases.items():
        scores = torch.cat([torch.zeros_like(given), given], dim=1) if channels == 1 else given
        probability = scores.double().exp() / scores.double().exp().sum(dim=1, keepdim=True)
        entropy, dice = 0.0, 0.0
        for label in range(len(classes) + 1):
            own, where = probability[:, label], labels == label
            entropy -= own[where].log().sum().item() / labels.numel()
            if label:  # 1 pixel more of either
                common, sizes = own[where].sum(), own.sum() + where.sum()
                dice += ((2 * common + 1) / (sizes + 1)).item() / len(classes)
        assert losses[name].item() == pytest.approx(entropy + weight * (1 - dice), rel=1e-4)
    assert losses.keys() == {"loss", "denoising", "prior"}
    assert losses["loss"].item() == pytest.approx((losses["denoising"] + losses["prior"]).item())


@pytest.mark.parametrize(
    "settings",
    [
        {"prediction_type": "epsilon"},
        {"variance_type": "learned_range"},
        {"mask_range": [0.0, 1.0]},
        {"snr_gamma": 5.0},
    ],
)
def test_an_image_encoder_predicts_labels_and_nothing_else(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"whose denoiser predicts labels; expected sample, fixed_small, \[-1, 1\]"):
        SegmentationModelConfig(image_block_out_channels=[16], **settings)


def test_draws_of_a_image_spread_over_the_times() -> None:
    loss = loss_of(noise_samples=4)
    network = Recorder()
    for seed in range(100):
        loss(network, batch_of(), BatchRandom(seed))
    times = torch.stack([call[1] for call in network.calls]).view(-1, 4)
    apart = times.sort(dim=1).values.diff(dim=1)
    assert ((apart - 250).abs() <= 1).all()
    assert len(times.unique()) > 700 and times.min() >= 0 and times.max() <= 999
    shares = torch.histc(times.float(), bins=10, min=0, max=1000) / times.numel()
    assert (shares - 0.1).abs().max() < 0.02


@pytest.mark.slow
def test_labels_are_learnt_where_there_is_noise_of_a_part_of_the_images() -> None:
    """The k-th tenth of the times is sampled 2k − 1 times as often as the first."""
    loss = loss_of(noise_samples=0.5, image_block_out_channels=[16])
    logits, prior_logits = torch.randn(4, 1, SIZE, SIZE), torch.randn(8, 1, SIZE, SIZE)
    network = Recorder(logits=logits, prior_logits=prior_logits)
    for seed in range(500):
        loss(network, batch_of(8), BatchRandom(seed))
    assert {(call[0].shape[0], call[2].shape[0]) for call in network.calls} == {(4, 8)}
    times = torch.cat([call[1] for call in network.calls]).float()
    shares = torch.histc(times, bins=10, min=0, max=1000) / times.numel()
    assert (shares - (2 * torch.arange(10) + 1) / 100).abs().max() < 0.03


def test_fractions_of_noise_samples() -> None:
    with pytest.raises(ValueError, match=r"noise_samples=1\.5; expected a whole number, or a fraction below 1"):
        SegmentationModelConfig(noise_samples=1.5)
    with pytest.raises(ValueError, match=r"noise_samples=0\.5 for a network without image encoder, .* a whole number"):
        loss_of(noise_samples=0.5)


@pytest.mark.usefixtures("unmoved")
def test_every_rater_is_sampled() -> None:
    loss = loss_of(noise_samples=4)
    batch, network = batch_of(), Recorder()
    chosen = []
    product = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(dim=0)
    between = (batch["masks"][:, 0] != batch["masks"][:, 1]).repeat_interleave(4, dim=0)
    for seed in range(50):
        loss(network, batch, BatchRandom(seed))
        x_t, times, _ = network.calls[-1]
        # Where raters differ, the mean of the noise hardly hides who it was, early on.
        mean = (x_t[:, 0] * between).flatten(1).sum(dim=1) / between.flatten(1).sum(dim=1)
        chosen += [value > 0 for value, time in zip(mean, times, strict=True) if product[time] > 0.8]
    share = torch.stack(chosen).float().mean().item()
    assert share == pytest.approx(0.5, abs=5 * 0.5 / len(chosen) ** 0.5)


def test_processes_together_have_the_loss_of_one() -> None:
    loss = loss_of(noise_samples=2, modality_dropout=0.5)
    batch, unet = batch_of(6), loss.pipeline.unet.eval()
    with torch.no_grad():
        whole = loss(unet, batch, BatchRandom(5))
        parts = [
            loss(
                unet,
                {name: tensor[3 * rank : 3 * rank + 3] for name, tensor in batch.items()},
                BatchRandom(5, rank=rank, world_size=2),
            )
            for rank in range(2)
        ]
    assert sum(part["loss"].item() for part in parts) / 2 == pytest.approx(whole["loss"].item(), rel=1e-5)


def test_modalities_are_left_out_and_images_changed() -> None:
    loss = loss_of(modalities=("a", "b", "c"), modality_dropout=1.0, noise_samples=2)
    batch = batch_of(32, channels=3)
    image, masks = loss.augment(batch, 2, BatchRandom(0))
    assert masks.shape == (64, SIZE, SIZE) and masks.dtype == torch.uint8
    kept = (image.flatten(2).amax(dim=2) > 0).sum(dim=1)
    assert kept.unique().tolist() == [1, 2, 3]
    assert not any(torch.equal(one, other) for one, other in zip(image, batch["image"], strict=True))
    inside = masks[::2] > 0  # where the disc of the image is, too
    brightest = image.amax(dim=1)
    assert brightest[inside].mean() > brightest[~inside].mean() + 0.3
