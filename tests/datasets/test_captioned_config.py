"""Captioned slices as the configuration requests them."""

from __future__ import annotations

import pytest

from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data


def test_slices_of_a_phantom_come_in_every_modality_and_those_of_the_test_from_others() -> None:
    config = CaptionedDataConfig(
        resolution=16,
        phantom_slices=3,
        phantom_slices_per_subject=2,
        phantom_test_slices=2,
        phantom_modalities=["t2", "flair"],
    )
    data = load_captioned_data(config)
    assert data["train"]["subject"] == ["0-0"] * 4 + ["0-1"] * 2
    assert [facts["modality"] for facts in data["train"]["facts"]] == ["t2", "flair"] * 3
    assert data["train"]["facts"][0]["number"] != data["train"]["facts"][2]["number"]
    assert data["test"]["subject"] == ["1-0"] * 2 + ["1-1"] * 2


def test_no_slice_of_a_subject_is_refused() -> None:
    with pytest.raises(ValueError, match="phantom_slices_per_subject"):
        CaptionedDataConfig(phantom_slices_per_subject=0)
