"""Perceptual distance of two images, from the first blocks of EfficientNet-Lite0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meddiffusers.evaluation.metrics.image_features import DEVIATION, MEAN, EfficientNetLite0

NUM_BLOCKS = 5  # of 16, with 112², 56² and 28² features of 224² pixels
EPSILON = 1e-6


class PerceptualDistance(nn.Module):
    """Mean squared difference of features that are normalised over their channels (Zhang et al. 2018, eq. 1, w = 1).

    The network was trained on ImageNet. It stays fixed, and is not part of any stored state.

    Raises:
        ImportError: The extra `features` is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNetLite0().network
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[:NUM_BLOCKS])
        self.requires_grad_(False).train(False)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """The distance, a mean over the layers, of images (B, 1, H, W) in [0, 1]."""
        count = len(image)
        x = self.stem(((torch.cat([image, other]) - MEAN) / DEVIATION).expand(-1, 3, -1, -1))
        terms = [_difference(x, count)]
        for block in self.blocks:
            x = block(x)
            terms.append(_difference(x, count))
        return torch.stack(terms).mean()


def _difference(features: Tensor, count: int) -> Tensor:
    normalised = F.normalize(features, dim=1, eps=EPSILON)
    return (normalised[:count] - normalised[count:]).square().sum(dim=1).mean()
