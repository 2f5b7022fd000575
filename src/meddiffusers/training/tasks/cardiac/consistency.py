"""Build a temporal consistency pipeline from a trained VAE, with limits from reference sequences.

No gradients are involved. The limits are the largest |e| that any reference sequence shows (Painchaud et al., IEEE TMI
2022), and the Dice coefficient between a frame and its reconstruction by the VAE that 99 % of the references reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddiffusers.datasets.cardiac_sequences import CARDIAC_PHANTOM, CardiacSequence
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import min_dice
from meddiffusers.pipelines.meddiffusers_cardiac_region_v1 import lv_region
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
from meddiffusers.schedulers.temporal_smoother import TemporalSmoother
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class ConsistencyConfig:
    """Configuration of `training/fit_temporal_consistency.py`: the VAE, and the sequences that give the limits."""

    pretrained_model_name_or_path: str = setting("", "Repository or folder of the cardiac AttributeVAE.")
    dataset_name: str = setting(CARDIAC_PHANTOM, "'cardiac_phantom', 'cardiac_phantom_varied', or a CAMUS folder.")
    reference_split: str = setting("reference", "Split of the reference sequences; 'train' for a CAMUS folder.")
    reference_sequences: int | None = setting(600, "Number of reference sequences. Default for a folder: all.")
    test_split: str = setting("test", "Split for the evaluation.")
    test_sequences: int | None = setting(60, "Number of test sequences.")
    spacing: float = setting(1.25, "Edge length of the VAE's pixels in mm.")
    margin: float = setting(1.0, "Factor of the limits; above 1 if hearts move less evenly than the references.")
    error_rate: float = setting(0.15, "Fraction of test frames that get an injected error.")
    seed: int = setting(0, "Seed of the injected errors.")
    output_dir: str = setting("", "Output folder.")
    further_metrics: list[str] = list_setting(
        [], "Folders with metrics.json of other evaluations of the same repository, which the card shows first."
    )
    card: str | None = setting(None, "YAML file with the facts of the model card (see model_cards/).")

    def __post_init__(self) -> None:
        check_fields(self, {"spacing": Range(0, open_low=True), "margin": Range(1), "error_rate": Range(0, 1)})
        if not self.pretrained_model_name_or_path or not self.output_dir:
            raise ValueError(
                "pretrained_model_name_or_path or output_dir is not set; expected the VAE's repository, which "
                "training/train_attribute_vae.py writes, and an output folder."
            )


def build_consistency_pipeline(
    vae: AttributeVAEPipeline, references: Sequence[CardiacSequence], spacing: float, margin: float = 1.0
) -> TemporalConsistencyPipeline:
    """Build the pipeline with limits from reference sequences.

    Args:
        vae: Pipeline of the cardiac VAE.
        references: Sequences whose label maps are taken as ground truth.
        spacing: Edge length of the VAE's pixels in mm.
        margin: Factor of the limits.
    """
    attributes, latents, dice = [], [], []
    for sequence in references:
        region = lv_region(sequence.labels, sequence.spacing, vae.vae.image_size[0], spacing)
        crops = region.crop(sequence.labels)
        means = vae.encode(crops)
        reconstructions = np.asarray(vae.decode(means, output_type="np").images)
        attributes.append(measure_cardiac_attributes(sequence.labels, sequence.spacing))
        latents.append(means.double().cpu().numpy())
        dice.append(min_dice(reconstructions, crops).min())
    pixels = [float(np.sqrt(np.prod(sequence.spacing))) for sequence in references]
    least = float(np.quantile(dice, 0.01))
    smoother = TemporalSmoother.from_references(attributes, list(CARDIAC_ATTRIBUTES), latents, least, pixels, margin)
    return TemporalConsistencyPipeline(vae.vae, smoother, spacing)
