from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from monai.networks.nets import AutoencoderKL
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from meddiffusers import MonaiAutoencoderKL
from meddiffusers.models.monai_autoencoder import DiagonalGaussian, _cuts, _ramp

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


class TestMonaiAutoencoderKLOfPictures(TestMonaiAutoencoderKL):
    config = {**NETWORK, "spatial_dims": 2, "in_channels": 2, "out_channels": 2}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 2, 8, 8)}


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


@pytest.mark.parametrize("length", range(1, 40))
@pytest.mark.parametrize(("size", "overlap"), [(8, 2), (8, 0), (5, 4), (3, 1)])
def test_tiles_cover_the_length_and_their_weights_never_vanish(length: int, size: int, overlap: int) -> None:
    cuts = _cuts(length, size, overlap)
    weights = torch.zeros(2 * length)
    for part in cuts:
        assert part.stop - part.start == min(size, length)
        weights[2 * part.start : 2 * part.stop] += _ramp(part, length, 2, overlap)
    assert weights.min() > 0.2 and cuts[0].start == 0 and cuts[-1].stop == length
    assert all(one.stop - other.start >= overlap for one, other in itertools.pairwise(cuts))


@torch.no_grad()
def test_tiles_of_a_network_without_context_are_its_decoding() -> None:
    """Where each latent decodes by itself, tiles and their fading must not show at all."""
    model = build(tile_size=5, tile_overlap=2)
    model.post_quant_conv = torch.nn.Identity()
    model.decoder = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), torch.nn.Conv3d(2, 1, 1))
    z = torch.randn(2, 2, 12, 7, 4)
    torch.testing.assert_close(model.decode(z).sample, model.decoder(z), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_small_latents_are_decoded_whole() -> None:
    tiled, plain, z = build(tile_size=6), build(), torch.randn(1, 2, 6, 4, 6)
    assert torch.equal(tiled.decode(z).sample, plain.decode(z).sample)
    large = torch.randn(1, 2, 10, 4, 6)
    assert tiled.decode(large).sample.shape == plain.decode(large).sample.shape == (1, 1, 20, 8, 12)


def test_an_overlap_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tile_size=4 and tile_overlap=4: expected an overlap"):
        build(tile_size=4, tile_overlap=4)
