"""Everything that is measured of a `SegmentationResult`, before it is averaged: by slice, or by subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meddiffusers.evaluation.metrics.energy_distance import energy_distance
from meddiffusers.evaluation.metrics.overlap import Overlap, overlap
from meddiffusers.evaluation.metrics.uncertainty import dice_rejection, error_uncertainty_auroc, reliability_bins
from meddiffusers.evaluation.segmentation.result import SegmentationResult

LIMITS = (150, 600)  # mm², between small, middling and large lesions


@dataclass(frozen=True, eq=False)
class EnergyDistances:
    """Generalised energy distance to the raters, (N,) each.

    Slices in which no rater marks anything count too. Without them the mean would not be least for the truth: who is in
    doubt whether there is a lesion would do best to always mark a little.

    samples, mask: unbiased, the mask as the one sample that there is. kohl: of the samples, over all M² pairs.
    """

    samples: np.ndarray
    mask: np.ndarray
    kohl: np.ndarray


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """Of N slices with K classes, of S subjects in the order of their names.

    whole: of the foreground, (N,) each; NaN in slices whose reference has none.
    classes: of ids 1 to K − 1, (N, K − 1) each; NaN in slices whose reference lacks the class.
    false_positive (N,): 1 where the mask has foreground and the reference none, 0 where neither has, else NaN.
    bins (S, 3, BINS): reliability bins of the foreground's probability, in the head (where the image is above 0).
    auroc (S,): in the head, of uncertainty against error, another label than the reference's; NaN without errors.
    rejection, best, random (S, F): Dice–rejection curves of the foreground by uncertainty, with the errors first, and
        by chance; NaN for subjects whose reference has no foreground.
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
    """Measure it all.

    Raises:
        ValueError: no reference has foreground.
    """
    mask, reference = result.mask > 0, result.reference > 0
    if not reference.any():
        raise ValueError(
            f"None of the {len(reference)} reference slices has foreground; expected one or more with something to "
            "segment: choose other slices."
        )
    ids = sorted(result.id2label)[1:]
    present = np.stack([(result.reference == label).any(axis=(1, 2)) for label in ids], axis=1)
    drawn = result.area > 0
    wrong = result.mask != result.reference
    foreground, uncertainty = result.foreground, result.uncertainty
    head = (result.images > 0) | mask | reference
    names, member = np.unique(result.subjects, return_inverse=True)

    def by_subject(measure: Callable[[np.ndarray], np.ndarray | float]) -> np.ndarray:
        return np.stack([measure(member == number) for number in range(len(names))])

    def in_head(of: np.ndarray, *maps: np.ndarray) -> list[np.ndarray]:
        """(P,) of each map: air, of which any model is sure and right, would flatter all."""
        return [values[of][head[of]] for values in maps]

    return SegmentationScores(
        subjects=names.tolist(),
        whole=overlap(mask, reference, (1,), result.spacing)[:, 0].where(drawn),
        classes=overlap(result.mask, result.reference, ids, result.spacing).where(present),
        false_positive=np.where(drawn, np.nan, mask.any(axis=(1, 2))),
        energy=_energy_distances(result),
        bins=by_subject(lambda of: reliability_bins(*in_head(of, foreground, reference))),
        auroc=by_subject(lambda of: error_uncertainty_auroc(*in_head(of, uncertainty, wrong))),
        rejection=by_subject(lambda of: dice_rejection(uncertainty[of], mask[of], reference[of])),
        best=by_subject(lambda of: dice_rejection(mask[of] != reference[of], mask[of], reference[of])),
        random=by_subject(lambda of: dice_rejection(np.zeros_like(uncertainty[of]), mask[of], reference[of])),
    )


def strata(area: np.ndarray) -> dict[str, np.ndarray]:
    """By size of lesion, as areas (N,) in mm² have it: which slices are in it, (N,) bool. Without one, in none."""
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
