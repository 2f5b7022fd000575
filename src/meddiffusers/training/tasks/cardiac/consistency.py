"""From a VAE of hearts to a repairer of their sequences, by limits that are learnt from reference sequences.

Nothing is trained by gradients: the limits are the largest |e| that any reference sequence shows (Painchaud et al.,
IEEE TMI 2022), and the least agreement of a reference frame with what the VAE makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddiffusers.datasets.cardiac_sequences import HEARTS, HeartSequence
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES, measure_hearts
from meddiffusers.pipelines.meddiffusers_heart_windows_v1 import heart_window
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline, agreement
from meddiffusers.schedulers.temporal_smoother import TemporalSmoother
from meddiffusers.utils.settings import Range, check_fields, setting


@dataclass
class ConsistencyConfig:
    """Which VAE, and the sequences that its limits come from."""

    pretrained_model_name_or_path: str = setting("", "Repository or folder of the AttributeVAE of hearts.")
    dataset_name: str = setting(HEARTS, "'hearts', or a CAMUS folder.")
    reference_split: str = setting("reference", "Split that the limits are learnt from; of a CAMUS folder 'train'.")
    reference_sequences: int | None = setting(600, "So many of its sequences; all of a folder's if not given.")
    test_split: str = setting("test", "Split that the result is evaluated on.")
    test_sequences: int | None = setting(60, "So many of its sequences.")
    spacing: float = setting(1.25, "Edge length in mm of the VAE's pixels.")
    error_rate: float = setting(0.15, "Part of the test frames that an error is put into.")
    seed: int = setting(0, "Of those errors.")
    output_dir: str = setting("", "Folder to write.")
    card: str | None = setting(None, "YAML of facts (see model_cards/) for the model card.")

    def __post_init__(self) -> None:
        check_fields(self, {"spacing": Range(0, open_low=True), "error_rate": Range(0, 1)})
        if not self.pretrained_model_name_or_path or not self.output_dir:
            raise ValueError(
                "pretrained_model_name_or_path or output_dir is not set; expected the VAE's repository, which "
                "training/train_attribute_vae.py makes, and a folder to write."
            )


def fitted_pipeline(
    vae: AttributeVAEPipeline, references: Sequence[HeartSequence], spacing: float
) -> TemporalConsistencyPipeline:
    """The repairer with limits from references, whose label maps are taken to be right."""
    attributes, latents, agreements = [], [], []
    for sequence in references:
        window = heart_window(sequence.labels, sequence.spacing, vae.vae.image_size[0], spacing)
        seen = window.cut(sequence.labels)
        means = vae.encode(seen)
        rebuilt: Any = vae.decode(means, output_type="np").images
        attributes.append(measure_hearts(sequence.labels, sequence.spacing))
        latents.append(means.double().cpu().numpy())
        agreements.append(agreement(rebuilt, seen).min())
    smoother = TemporalSmoother.fitted(attributes, list(CARDIAC_ATTRIBUTES), latents, float(np.min(agreements)))
    return TemporalConsistencyPipeline(vae.vae, smoother, spacing)
