"""Limits from reference sequences, and injected errors that depend on the seed only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meddiffusers import AttributeVAEPipeline
from meddiffusers.datasets.cardiac_sequences import load_cardiac_sequences
from meddiffusers.evaluation.cardiac.run import corrupt_sequences
from meddiffusers.hub.load import load
from meddiffusers.training.tasks.cardiac.consistency import ConsistencyConfig, build_consistency_pipeline

CHECKPOINT = Path(__file__).parents[4] / "examples" / "checkpoints" / "ar-vae-cardiac"


def in_units(config: Any) -> np.ndarray:
    """The limits in units of the attributes instead of their ranges."""
    return np.array([config["limits"][name] * np.ptp(config["ranges"][name]) for name in config["attributes"]])


@pytest.mark.slow
def test_the_references_meet_the_limits_exactly() -> None:
    vae: Any = AttributeVAEPipeline.from_pipe(load(CHECKPOINT))
    references = list(load_cardiac_sequences("cardiac_phantom", "reference", 6))
    pipeline = build_consistency_pipeline(vae, references, 1.25)
    consistency_ratio = np.stack([pipeline.report(each.labels, each.spacing).consistency_ratio for each in references])
    np.testing.assert_allclose(consistency_ratio.max(axis=(0, 1)), 1)
    assert (
        0.9 < pipeline.smoother.config["min_reconstruction_dice"] < 1
        and len(pipeline.smoother.config["latent_limits"]) == 16
    )
    shipped = load(CHECKPOINT).smoother.config
    grid = np.array([shipped["grid_limits"][name] for name in shipped["attributes"]])
    few = in_units(pipeline.smoother.config)
    assert (few <= in_units(shipped) + 1.25 * grid).all()  # the shipped limits come from varied hearts
    wider = build_consistency_pipeline(vae, references[:2], 1.25, margin=2.0)
    narrow = build_consistency_pipeline(vae, references[:2], 1.25)
    np.testing.assert_allclose(in_units(wider.smoother.config), 2 * in_units(narrow.smoother.config))


def test_errors_depend_on_seed_and_index_only() -> None:
    sequences = list(load_cardiac_sequences("cardiac_phantom", "test", 3))
    first, again, other = (
        corrupt_sequences(sequences, 0.2, 0),
        corrupt_sequences(sequences[:2], 0.2, 0),
        corrupt_sequences(sequences, 0.2, 1),
    )
    np.testing.assert_array_equal(first[:2], again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(corrupt_sequences(sequences, 0.0, 0), [each.labels for each in sequences])


def test_the_configuration_is_checked() -> None:
    with pytest.raises(ValueError, match=r"error_rate is 1\.5"):
        ConsistencyConfig(error_rate=1.5)
    with pytest.raises(ValueError, match="spacing is 0"):
        ConsistencyConfig(spacing=0)
    with pytest.raises(ValueError, match="output_dir is not set"):
        ConsistencyConfig(pretrained_model_name_or_path="runs/vae")
