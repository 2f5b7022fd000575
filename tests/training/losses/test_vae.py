from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal
from torch.distributions import kl_divergence as kl_of

from meddiffusers.training.losses.vae import (
    consistency_loss,
    kl_divergence,
    negative_log_likelihood,
    ordering_loss,
    regression_loss,
    soft_dice_loss,
)


@pytest.fixture
def normal() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def one_hot(labels: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, count).movedim(-1, 1).double()


def test_kl_is_that_of_normal_distributions(normal: torch.Generator) -> None:
    mean, logvar = randn(normal, 6, 4), randn(normal, 6, 4)
    expected = kl_of(Normal(mean, (logvar / 2).exp()), Normal(torch.zeros(6, 4), torch.ones(6, 4)))
    torch.testing.assert_close(kl_divergence(mean, logvar), expected.sum(dim=1).mean())
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


def test_bernoulli_likelihood(normal: torch.Generator) -> None:
    logits, target = randn(normal, 3, 2, 4, 4), (randn(normal, 3, 2, 4, 4) > 0).double()
    expected = -Bernoulli(logits=logits).log_prob(target).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(negative_log_likelihood(logits, target, "bernoulli"), expected)


def test_gaussian_likelihood_up_to_its_constant(normal: torch.Generator) -> None:
    mean, target = randn(normal, 3, 2, 4, 4), randn(normal, 3, 2, 4, 4)
    expected = -Normal(mean, 1.0).log_prob(target).sum(dim=(1, 2, 3)).mean()
    constant = 32 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(negative_log_likelihood(mean, target, "gaussian") + constant, expected)


def test_categorical_likelihood(normal: torch.Generator) -> None:
    logits = randn(normal, 3, 5, 4, 4)
    labels = torch.randint(0, 5, (3, 4, 4), generator=normal)
    expected = -Categorical(logits=logits.movedim(1, -1)).log_prob(labels).sum(dim=(1, 2)).mean()
    torch.testing.assert_close(negative_log_likelihood(logits, one_hot(labels, 5), "categorical"), expected)


def test_dice_of_equal_masks_is_whole_and_of_disjoint_ones_nothing() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, :2] = 1
    other = 1 - labels  # the other half
    target = one_hot(labels, 2)
    assert soft_dice_loss(100 * target, target).item() == pytest.approx(0, abs=1e-12)
    assert soft_dice_loss(100 * one_hot(other, 2), target).item() == pytest.approx(1 - 1 / (8 + 8 + 1))


def test_dice_of_overlapping_masks_leaves_the_background_out() -> None:
    labels, guess = torch.zeros(2, 1, 4, 4, dtype=torch.long)
    labels[:, 0], guess[:, 0, :2] = 1, 1  # 4 px and 2 of them
    labels[:, 3], guess[:, 3] = 2, 2
    expected = ((1 - (2 * 2 + 1) / (4 + 2 + 1)) + 0) / 2
    assert soft_dice_loss(200 * one_hot(guess, 3), one_hot(labels, 3)).item() == pytest.approx(expected)


def test_ordering_counts_every_pair(normal: torch.Generator) -> None:
    latents, attributes, sharpness = randn(normal, 7, 3), randn(normal, 7, 3), 1.7
    attributes[2, 1] = attributes[5, 1]  # a tie
    expected = 0.0
    for dimension in range(3):
        for i in range(7):
            for j in range(7):
                step = math.tanh(sharpness * (latents[i, dimension] - latents[j, dimension]).item())
                gap = (attributes[i, dimension] - attributes[j, dimension]).item()
                expected += abs(step - ((gap > 0) - (gap < 0))) / 49
    assert ordering_loss(latents, attributes, sharpness).item() == pytest.approx(expected, rel=1e-12)


def test_ordering_vanishes_for_ordered_latents_and_is_worst_for_reversed_ones() -> None:
    attributes = torch.tensor([[3.0], [1.0], [2.0], [10.0]])
    ranks = torch.tensor([[2.0], [0.0], [1.0], [3.0]])
    assert ordering_loss(ranks, attributes, sharpness=50.0) == 0
    assert ordering_loss(-ranks, attributes, sharpness=50.0).item() == pytest.approx(2 * (4 * 3) / 16)


def test_ordering_knows_neither_shift_nor_scale_of_the_attribute(normal: torch.Generator) -> None:
    latents, attributes = randn(normal, 6, 2), randn(normal, 6, 2)
    loss = ordering_loss(latents, attributes, 3.0)
    torch.testing.assert_close(ordering_loss(latents + 4, 10 * attributes - 1, 3.0), loss)


def test_ordering_moves_latents_towards_their_order() -> None:
    latents = torch.tensor([[0.1], [-0.1]], requires_grad=True)
    ordering_loss(latents, torch.tensor([[1.0], [2.0]]), sharpness=1.0).backward()
    # |tanh(d) + 1| is counted twice, for the pair and its mirror image, and divided by N² = 4.
    slope = 2 * (1 - math.tanh(0.2) ** 2) / 4
    torch.testing.assert_close(latents.grad, torch.tensor([[slope], [-slope]]))


def test_regression_is_the_squared_distance_summed_over_attributes() -> None:
    latents = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    attributes = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    assert regression_loss(latents, attributes) == 0.5 + 4.5


def test_consistency_compares_what_was_asked_with_what_is_read() -> None:
    image = torch.arange(8.0).reshape(2, 1, 2, 2)
    loss = consistency_loss(nn.Flatten(), image, torch.tensor([1, 3]), torch.tensor([0.5, 9.0]))
    assert loss == ((1 - 0.5) ** 2 + (7 - 9) ** 2) / 2


def test_consistency_teaches_the_decoder_alone() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    image = torch.ones(2, 1, 2, 2, requires_grad=True)
    dimension, value = torch.tensor([0, 2]), torch.tensor([1.0, -1.0])
    consistency_loss(encoder, image, dimension, value).backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    gap = encoder(image)[[0, 1], dimension] - value
    torch.testing.assert_close(image.grad.flatten(1), gap[:, None].detach() * encoder[1].weight[dimension].detach())
