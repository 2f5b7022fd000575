"""Scores of a `SegmentationResult` by slice or by subject, before averaging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meddiffusers.evaluation.metrics.energy_distance import energy_distance
from meddiffusers.evaluation.metrics.overlap import Overlap, overlap
from meddiffusers.evaluation.metrics.uncertainty import dice_rejection, error_uncertainty_auroc, reliability_bins
from meddiffusers.evaluation.segmentation.result import SegmentationResult

LIMITS = (150, 600)  # mm², between small, medium and large lesions


@dataclass(frozen=True, eq=False)
class EnergyDistances:
    """Generalised energy distance between predictions and raters, (B,) each.

    Slices without any rater mask count too. Without them, a model that is uncertain whether there is a lesion could
    lower the mean by always segmenting a little.

    Args:
        samples: Unbiased distance of the samples.
        mask: Unbiased distance of the mask, as a single sample.
        kohl: Distance of the samples over all M² pairs, as Kohl et al. compute it.
    """

    samples: np.ndarray
    mask: np.ndarray
    kohl: np.ndarray


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """Scores of B slices with K classes, and of S subjects in the order of their names.

    Args:
        subjects: The S names.
        whole: Overlap of the foreground, (B,) each; NaN in slices whose reference has none.
        classes: Overlap of ids 1 to K − 1, (B, K − 1) each; NaN in slices whose reference lacks the class.
        false_positive: (B,) 1 where the mask has foreground and the reference none, 0 where neither has, else NaN.
        energy: Energy distances.
        bins: (S, 3, BINS) reliability bins of the foreground probability, in the head (where the image is above 0).
        auroc: (S,) AUROC of uncertainty for wrong labels, in the head; NaN without errors.
        rejection: (S, F) Dice rejection curves of the foreground by uncertainty; NaN for subjects without foreground.
        best: The same if errors are rejected first.
        random: The same if pixels are rejected at random.
    """

    subjects: list[str]
    whole: Overlap
    classes: Overlap
    false_positive: np.ndarray
    energy: EnergyDistances
    bins: np.ndarray
    auroc: np.ndarray
    rejection: np.ndarray
    best: np.ndarray
    random: np.ndarray


def score(result: SegmentationResult) -> SegmentationScores:
    """Compute all scores.

    Raises:
        ValueError: No reference has foreground.
    """
    mask, reference = result.mask > 0, result.reference > 0
    if not reference.any():
        raise ValueError(
            f"None of the {len(reference)} reference slices has foreground; expected one or more with something to "
            "segment: choose other slices."
        )
    ids = sorted(result.id2label)[1:]
    present = np.stack([(result.reference == label).any(axis=(1, 2)) for label in ids], axis=1)
    has_lesion = result.area > 0
    wrong = result.mask != result.reference
    foreground, uncertainty = result.foreground, result.uncertainty
    head = (result.images > 0) | mask | reference
    names, member = np.unique(result.subjects, return_inverse=True)

    def by_subject(measure: Callable[[np.ndarray], np.ndarray | float]) -> np.ndarray:
        return np.stack([measure(member == number) for number in range(len(names))])

    def in_head(of: np.ndarray, *maps: np.ndarray) -> list[np.ndarray]:
        """The pixels of each map inside the head. Air, which is easy for every model, would hide errors."""
        return [values[of][head[of]] for values in maps]

    return SegmentationScores(
        subjects=names.tolist(),
        whole=overlap(mask, reference, (1,), result.spacing)[:, 0].where(has_lesion),
        classes=overlap(result.mask, result.reference, ids, result.spacing).where(present),
        false_positive=np.where(has_lesion, np.nan, mask.any(axis=(1, 2))),
        energy=_energy_distances(result),
        bins=by_subject(lambda of: reliability_bins(*in_head(of, foreground, reference))),
        auroc=by_subject(lambda of: error_uncertainty_auroc(*in_head(of, uncertainty, wrong))),
        rejection=by_subject(lambda of: dice_rejection(uncertainty[of], mask[of], reference[of])),
        best=by_subject(lambda of: dice_rejection(mask[of] != reference[of], mask[of], reference[of])),
        random=by_subject(lambda of: dice_rejection(np.zeros_like(uncertainty[of]), mask[of], reference[of])),
    )


def strata(area: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (B,) of the slices with a lesion of each size, from areas (B,) in mm²; an area of 0 is in none."""
    small, large = LIMITS
    return {
        f"under {small} mm²": (area > 0) & (area < small),
        f"{small} to {large} mm²": (area >= small) & (area <= large),
        f"over {large} mm²": area > large,
    }


def _energy_distances(result: SegmentationResult) -> EnergyDistances:
    distances = np.empty((3, len(result.mask)))
    for number in range(len(result.mask)):
        samples, mask, raters = result.samples[number], result.mask[number, None], result.raters[number]
        distances[:, number] = (
            energy_distance(samples, raters, unbiased=True),
            energy_distance(mask, raters, unbiased=True),
            energy_distance(samples, raters, unbiased=False),
        )
    return EnergyDistances(*distances)
