"""BraTS 2017 to 2025: multimodal MR of brain tumours with segmentations."""

from meddiffusers.datasets.public.brats.loading import MODALITIES, brats

__all__ = ["MODALITIES", "brats"]
