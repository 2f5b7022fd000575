"""From a VAE of hearts to a repairer of their sequences: limits learnt from reference sequences, and what it is worth.

Nothing is trained by gradients: the limits are the largest |e| that any reference sequence shows (Painchaud et al.,
IEEE TMI 2022), and the least agreement of a reference frame with what the VAE makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddiffusers.data.cardiac_phantom import corrupted
from meddiffusers.data.heart_sequences import HEARTS, HeartSequence, heart_sequences
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.temporal_baselines import run_gaussian, run_reconstruction
from meddiffusers.evaluation.temporal_report import evaluate_temporal
from meddiffusers.evaluation.temporal_result import as_segmented, run_temporal
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES, measure_hearts
from meddiffusers.pipelines.meddiffusers_heart_windows_v1 import heart_window
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline, agreement
from meddiffusers.schedulers.temporal_smoother import TemporalSmoother
from meddiffusers.training.fields import Range, check_fields, setting


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


def evaluate_repair(pipeline: TemporalConsistencyPipeline, config: ConsistencyConfig) -> Report:
    """Test sequences with errors put in: as they are, by the baselines, by the paper's method, and repaired."""
    split = heart_sequences(config.dataset_name, config.test_split, config.test_sequences)
    sequences = list(split)
    segmented = broken(sequences, config.error_rate, config.seed)
    results = {
        "as segmented": as_segmented(pipeline, sequences, segmented),
        "reconstructed": run_reconstruction(pipeline, sequences, segmented),
        "Gaussian": run_gaussian(pipeline, sequences, segmented),
        "smooth": run_temporal(pipeline, sequences, segmented, method="smooth"),
        "repair": run_temporal(pipeline, sequences, segmented),
    }
    dataset = f"{'phantom' if config.dataset_name == HEARTS else 'CAMUS'}, {config.error_rate:.0%} of frames spoilt"
    return evaluate_temporal(results, dataset=dataset, seed=config.seed)


def broken(
    sequences: Sequence[HeartSequence], rate: float, seed: int, kinds: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Label maps of each sequence with errors put in, which depend on (seed, its number) alone."""
    return [
        corrupted(sequence.labels, sequence.spacing[0], seed * 1_000_003 + number, rate, kinds)[0]
        for number, sequence in enumerate(sequences)
    ]
