"""Generative models for medical imaging, as a plugin for Hugging Face diffusers.

Importing the package is enough for `diffusers.DiffusionPipeline.from_pretrained` to open its repositories.
The classes themselves are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from meddiffusers.registration import register

if TYPE_CHECKING:
    from meddiffusers.models.attribute_vae import AttributeVAE
    from meddiffusers.models.conditioned_unet import ConditionedUNet
    from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
    from meddiffusers.models.monai_unet import MonaiUNet
    from meddiffusers.models.noisy_classifier import NoisyClassifier
    from meddiffusers.models.patch_unet import PatchUNet2DModel
    from meddiffusers.models.quantity_encoder import QuantityEncoder
    from meddiffusers.models.segmentation_unet import SegmentationUNet
    from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
    from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
    from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
    from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline
    from meddiffusers.schedulers.reversible_ddim_scheduler import ReversibleDDIMScheduler
    from meddiffusers.schedulers.temporal_smoother import TemporalSmoother

__version__ = "0.1.0.dev0"

PUBLIC = {
    "AnomalyDetectionPipeline": "meddiffusers.pipelines.anomaly_detection_pipeline",
    "AttributeVAE": "meddiffusers.models.attribute_vae",
    "AttributeVAEPipeline": "meddiffusers.pipelines.attribute_vae_pipeline",
    "ConditionalSegmentationPipeline": "meddiffusers.pipelines.conditional_segmentation_pipeline",
    "ConditionedUNet": "meddiffusers.models.conditioned_unet",
    "PatchUNet2DModel": "meddiffusers.models.patch_unet",
    "LatentDiffusionPipeline": "meddiffusers.pipelines.latent_diffusion_pipeline",
    "MonaiAutoencoderKL": "meddiffusers.models.monai_autoencoder",
    "MonaiUNet": "meddiffusers.models.monai_unet",
    "NoisyClassifier": "meddiffusers.models.noisy_classifier",
    "SliceAttributePredictor": "meddiffusers.models.slice_attribute_predictor",
    "QuantityEncoder": "meddiffusers.models.quantity_encoder",
    "ReversibleDDIMScheduler": "meddiffusers.schedulers.reversible_ddim_scheduler",
    "SegmentationUNet": "meddiffusers.models.segmentation_unet",
    "TemporalConsistencyPipeline": "meddiffusers.pipelines.temporal_consistency_pipeline",
    "TemporalSmoother": "meddiffusers.schedulers.temporal_smoother",
    "TextToMRPipeline": "meddiffusers.pipelines.text_to_mr_pipeline",
    "ImageDiffusionPipeline": "meddiffusers.pipelines.image_diffusion_pipeline",
}
__all__ = [
    "PUBLIC",
    "AnomalyDetectionPipeline",
    "AttributeVAE",
    "AttributeVAEPipeline",
    "ConditionalSegmentationPipeline",
    "ConditionedUNet",
    "ImageDiffusionPipeline",
    "LatentDiffusionPipeline",
    "MonaiAutoencoderKL",
    "MonaiUNet",
    "NoisyClassifier",
    "PatchUNet2DModel",
    "QuantityEncoder",
    "ReversibleDDIMScheduler",
    "SegmentationUNet",
    "SliceAttributePredictor",
    "TemporalConsistencyPipeline",
    "TemporalSmoother",
    "TextToMRPipeline",
    "__version__",
]

register(PUBLIC)


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
