from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from monai.networks.nets import AutoencoderKL
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from meddiffusers import MonaiAutoencoderKL
from meddiffusers.models import monai_autoencoder
from meddiffusers.models.monai_autoencoder import DiagonalGaussian

NETWORK: dict[str, Any] = {
    "num_res_blocks": [1, 1],
    "channels": [4, 8],
    "attention_levels": [False, False],
    "latent_channels": 2,
    "norm_num_groups": 2,
}


class TestMonaiAutoencoderKL(ModelContract, PublishedContract):
    model_class = MonaiAutoencoderKL
    config = {**NETWORK, "spatial_dims": 3, "scaling_factor": 0.7}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 1, 4, 6, 4)}

    def test_the_gradient_reaches_every_parameter(self) -> None:
        """That of the latents' spread is used by samples alone."""
        model = self.build()
        model(**self.batch(), sample_posterior=True).sample.square().sum().backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


class TestMonaiAutoencoderKLOfImages(TestMonaiAutoencoderKL):
    config = {**NETWORK, "spatial_dims": 2, "in_channels": 2, "out_channels": 2}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 2, 8, 8)}


class TestMonaiAutoencoderKLOfPatches(TestMonaiAutoencoderKL):
    config = {**NETWORK, "spatial_dims": 3, "patch_size": 2}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 1, 8, 12, 8)}


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 3, 4, 6, 8)])
def test_patches_are_channels_and_back(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    folded = monai_autoencoder._space_to_depth(x, 2)
    assert folded.shape == (2, 3 * 2 ** (len(shape) - 2), *(side // 2 for side in shape[2:]))
    if len(shape) == 4:
        assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(x, 2))
    corner = x[(..., *[slice(None, None, 2)] * (len(shape) - 2))]
    assert torch.equal(folded[:, :: 2 ** (len(shape) - 2)], corner)
    assert torch.equal(monai_autoencoder._depth_to_space(folded, 2), x)


def test_sides_that_no_patches_fill_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sides of \(8, 7, 8\); expected multiples of patch_size=2"):
        build(patch_size=2).encode(torch.randn(1, 1, 8, 7, 8))


@torch.no_grad()
def test_patches_reach_monais_network_and_slabs_change_nothing() -> None:
    model = build(patch_size=2)
    assert model.scale_factor == 4 and model.encoder.blocks[0].conv.in_channels == 8
    x = torch.randn(1, 1, 16, 8, 8)
    found = model.encode(x).latent_dist.mean
    assert found.shape == (1, 2, 4, 2, 2)
    whole = model.decode(found).sample
    assert whole.shape == x.shape
    model.register_to_config(slab_voxels=64)
    torch.testing.assert_close(model.decode(found).sample, whole)


def build(**config: Any) -> MonaiAutoencoderKL:
    torch.manual_seed(0)
    return MonaiAutoencoderKL(**{**NETWORK, **config}).eval()


@torch.no_grad()
def test_it_is_monais_network() -> None:
    model = build()
    peer = AutoencoderKL(
        spatial_dims=3, with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False, **NETWORK
    ).eval()
    peer.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 4, 8, 4)
    found, (mean, deviation) = model.encode(x).latent_dist, peer.encode(x)
    assert torch.equal(found.mean, mean) and torch.equal(found.std, deviation)
    assert torch.equal(model.decode(mean).sample, peer.decode(mean))


def test_the_distribution_is_normal() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.randn(3, 2, 4, 4, 4), torch.rand(3, 2, 4, 4, 4) + 0.1
    found = DiagonalGaussian(mean, deviation)
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).flatten(1).sum(dim=1)
    torch.testing.assert_close(found.kl(), expected)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found.sample(torch.Generator().manual_seed(3)), mean + deviation * noise)


@pytest.mark.parametrize("limit", [1, 30, 200, 900, 4000])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 2},
        {"channels": [4, 8, 12], "num_res_blocks": [2, 1, 1], "attention_levels": [False, True, False]},
        {"with_decoder_nonlocal_attn": True, "with_encoder_nonlocal_attn": True},
        {"use_convtranspose": True},
    ],
    ids=["volumes", "images", "three levels", "attention", "transposed"],
)
@torch.no_grad()
def test_slabs_decode_to_what_the_whole_does(config: dict[str, Any], limit: int) -> None:
    config = {"attention_levels": [False, False], **config}
    plain = build(**config, slab_voxels=None)
    for weight in plain.parameters():
        torch.nn.init.normal_(weight, mean=0.1, std=0.4)
    slabs = MonaiAutoencoderKL.from_config(plain.config, slab_voxels=limit).eval()
    slabs.load_state_dict(plain.state_dict())
    z = torch.randn(2, 2, *((7, 6, 4)[: plain.config["spatial_dims"]]))
    before = z.clone()
    expected = plain.decode(z).sample
    torch.testing.assert_close(slabs.decode(z).sample, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(z, before)


def test_with_gradients_it_decodes_the_whole() -> None:
    model, z = build(slab_voxels=1), torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    model.decode(z).sample.sum().backward()
    assert z.grad is not None and z.grad.any()


def test_never_more_than_two_maps_of_full_size_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the largest feature map, 8 channels on 32 × 8 × 8 voxels, there are two, a third of slabs, and no more."""
    model, alive = build(slab_voxels=256, channels=[8, 8]), []
    convolved = monai_autoencoder._convolve

    def counted(slabs: Any, conv: Any, prepared: Any, onto: Any = None) -> Any:
        def watched(slab: torch.Tensor) -> torch.Tensor:
            kept = [*slabs, *(onto or ())]
            alive.append(sum(each.numel() for each in kept))
            return prepared(slab)

        return convolved(slabs, conv, watched, onto)

    monkeypatch.setattr(monai_autoencoder, "_convolve", counted)
    with torch.no_grad():
        model.decode(torch.randn(1, 2, 16, 4, 4))
    assert max(alive) <= 2 * 8 * 32 * 8 * 8
