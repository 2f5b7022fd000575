"""Losses of variational autoencoders and of attribute regularisation. Each is a mean over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of posteriors with mean and log variance (B, K), summed over K.

    Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()


def negative_log_likelihood(parameters: Tensor, target: Tensor, likelihood: str) -> Tensor:
    """−log p(x | z) up to a constant, summed over the pixels of an image.

    Args:
        parameters: Output of `AttributeVAE.decode`, (B, C, H, W).
        target: Images, or one-hot labels if categorical, (B, C, H, W).
        likelihood: "bernoulli", "categorical" or "gaussian".
    """
    if likelihood == "bernoulli":
        per_pixel = F.binary_cross_entropy_with_logits(parameters, target, reduction="none")
    elif likelihood == "categorical":
        per_pixel = F.cross_entropy(parameters, target, reduction="none")
    else:
        per_pixel = 0.5 * (parameters - target).square()
    return per_pixel.flatten(1).sum(dim=1).mean()


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − Dice of the label probabilities, a mean over all labels except the first, which is the background.

    Args:
        logits: Logits (B, C, H, W).
        target: One-hot labels (B, C, H, W).
    """
    probabilities, one_hot = logits.softmax(dim=1)[:, 1:], target[:, 1:]
    overlap = 2 * (probabilities * one_hot).sum(dim=(2, 3))
    size = probabilities.sum(dim=(2, 3)) + one_hot.sum(dim=(2, 3))
    return (1 - (overlap + 1) / (size + 1)).mean()


def ordering_loss(latents: Tensor, attributes: Tensor, sharpness: float) -> Tensor:
    """Puts latents in the order of their attributes: Σ_r mean_ij |tanh(δ(z_i − z_j)) − sign(a_i − a_j)|.

    Pati & Lerch 2020, eq. 2 to 4. The mean is over all B² pairs of the batch.

    Args:
        latents: The regularised dimensions, (B, A).
        attributes: Attributes (B, A).
        sharpness: Slope δ.
    """
    latent_order = torch.tanh(sharpness * (latents[:, None] - latents[None]))
    attribute_order = torch.sign(attributes[:, None] - attributes[None])
    return (latent_order - attribute_order).abs().mean(dim=(0, 1)).sum()


def regression_loss(latents: Tensor, attributes: Tensor) -> Tensor:
    """Makes latents equal to the standardised attributes: Σ_r mean_i (z_i − a_i)², both of shape (B, A)."""
    return (latents - attributes).square().mean(dim=0).sum()


def consistency_loss(encoder: nn.Module, image: Tensor, dimension: Tensor, value: Tensor) -> Tensor:
    """Makes decoded images show the attribute that was set: mean_i (μ(image_i)[dimension_i] − value_i)².

    The encoder is held fixed, so that only the decoder learns.

    Args:
        encoder: Predicts posterior means (B, K) from images.
        image: Images (B, C, H, W), decoded from latents in which one dimension had been set.
        dimension: The dimension that was set in each, (B,).
        value: The value that it was set to, (B,).
    """
    fixed = {name: parameter.detach() for name, parameter in encoder.named_parameters()}
    predicted = functional_call(encoder, fixed, (image,))
    return (predicted.gather(1, dimension[:, None])[:, 0] - value).square().mean()
