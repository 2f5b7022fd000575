"""Losses of variational autoencoders and of attribute regularisation; means over the batch unless it says otherwise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of posteriors (B, K), summed over K (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()


def negative_log_likelihood(parameters: Tensor, target: Tensor, likelihood: str) -> Tensor:
    """−log p(x | z) up to a constant, summed over the pixels of an image. Both arguments are (B, C, H, W).

    target: images (one-hot labels if categorical); parameters: what `AttributeVAE.decode` gives.
    """
    if likelihood == "bernoulli":
        per_pixel = F.binary_cross_entropy_with_logits(parameters, target, reduction="none")
    elif likelihood == "categorical":
        per_pixel = F.cross_entropy(parameters, target, reduction="none")
    else:
        per_pixel = 0.5 * (parameters - target).square()
    return per_pixel.flatten(1).sum(dim=1).mean()


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − Dice of label probabilities, mean over all labels but the first. logits, one-hot target: (B, C, H, W)."""
    probabilities, one_hot = logits.softmax(dim=1)[:, 1:], target[:, 1:]
    overlap = 2 * (probabilities * one_hot).sum(dim=(2, 3))
    size = probabilities.sum(dim=(2, 3)) + one_hot.sum(dim=(2, 3))
    return (1 - (overlap + 1) / (size + 1)).mean()


def ordering_loss(latents: Tensor, attributes: Tensor, sharpness: float) -> Tensor:
    """Latents in the order of their attributes: Σ_r mean_ij |tanh(δ(z_i − z_j)) − sign(a_i − a_j)|.

    Pati & Lerch 2020, eq. 2 to 4.
    latents (N, A): the regularised dimensions; attributes (N, A); sharpness δ. All N² pairs of the batch count.
    """
    steps = torch.tanh(sharpness * (latents[:, None] - latents[None]))
    order = torch.sign(attributes[:, None] - attributes[None])
    return (steps - order).abs().mean(dim=(0, 1)).sum()


def regression_loss(latents: Tensor, attributes: Tensor) -> Tensor:
    """Latents equal to the standardised attributes: Σ_r mean_i (z_i − a_i)². Both arguments are (N, A)."""
    return (latents - attributes).square().mean(dim=0).sum()


def consistency_loss(encoder: nn.Module, image: Tensor, dimension: Tensor, value: Tensor) -> Tensor:
    """Does a decoded image show the attribute it was asked for? mean_i (μ(image_i)[dimension_i] − value_i)².

    image (B, C, H, W) was decoded from latents whose `dimension` (B,) had been set to `value` (B,). The encoder reads
    it and is held fixed, so that the decoder alone has to learn.
    """
    fixed = {name: parameter.detach() for name, parameter in encoder.named_parameters()}
    read = functional_call(encoder, fixed, (image,))
    return (read.gather(1, dimension[:, None])[:, 0] - value).square().mean()
