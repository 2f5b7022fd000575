"""Make segmentations of the left ventricle anatomically valid and consistent over a cardiac cycle.

After Painchaud et al., IEEE TMI 2022, "Echocardiography segmentation with enforced temporal consistency". A VAE of
label maps, whose first latent dimensions follow measured attributes (AR-VAE, Pati and Lerch 2020), encodes each frame.
A `TemporalSmoother` holds the limits of the attributes' second differences.

| symbol | here | shape |
|---|---|---|
| labels | 0 background, 1 left-ventricular cavity (LV), 2 myocardium (MYO), 3 left atrium (LA) | (T, H, W) |
| z | latents of the frames, which the VAE encodes in a region of interest around the left ventricle | (T, K) |
| e / τ | `consistency_ratio`: second difference of an attribute over its limit | (T, A) |

Method "smooth" is that of the paper. Each latent dimension is smoothed with the smallest weight that meets its limit,
and every frame is decoded. This flattens peaks and also changes frames that were right.

Method "repair", the default, changes only what it improves, and returns a consistent and valid sequence bit for bit:

1. Fragments and holes are removed from invalid frames, unless most frames have them.
2. A smooth motion is fitted to the borders of all frames (`meddiffusers_cardiac_motion_v1`). Outlier frames are those
   that it does not explain; the errors of the others are the jitter of the borders.
3. Candidates replace the outlier frames, but not runs of more than a quarter of the sequence: by the fitted borders, or
   by the VAE from latents interpolated with the least squared second differences, with borders corrected by those of
   neighbouring frames. The VAE takes part only if it reconstructs the other frames. If there is jitter that smoothing
   reduces, further candidates take the fitted borders in all frames, unless that moves end diastole or end systole by
   more than the jitter explains.
4. The candidate with the smallest violation of limits and criteria is returned, if its ejection fraction stays where
   the jitter of the input allows it. Where none improves, the pipeline abstains: `after.abstained` and a warning say in
   which frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput

from .meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, area_length_volumes, is_upside_down
from .meddiffusers_cardiac_ejection_v1 import ejection_fraction_messages
from .meddiffusers_cardiac_labels_v1 import (
    frame_spacing,
    frames_to_voxels,
    scan_to_frames,
    to_label_maps,
    to_scan,
)
from .meddiffusers_cardiac_masks_v1 import (
    add_atrium,
    fields_to_labels,
    heart_dice,
    long_runs,
    neighbouring_frames,
    replace_outliers,
)
from .meddiffusers_cardiac_motion_v1 import BorderMotion, fit_border_motion, prediction_errors
from .meddiffusers_cardiac_region_v1 import LVRegion, lv_region
from .meddiffusers_cardiac_report_v1 import (
    SequenceReport,
    abstaining_report,
    abstention_messages,
    measure_sequence,
    update_report,
)
from .meddiffusers_cardiac_shapes_v1 import LVShapes
from .meddiffusers_cardiac_validity_v1 import anatomical_violations, clean_label_map
from .meddiffusers_checks_v1 import check_flags, check_given_numbers, check_numbers
from .meddiffusers_saving_v1 import PublishedPipelineMixin

PUBLISHED_AS = "meddiffusers_temporal_consistency_pipeline_v1"  # `custom_pipeline` name of a published repository
METHODS = ("repair", "smooth")
MIN_JITTER = 0.33, 0.28  # mm and pixels; smaller errors of the borders are those of the pixel grid and of the motion
MAX_GAIN = 0.85  # mean square error of the fitted motion over that without smoothing, for jitter to be smoothed
MAX_GAP = 0.25  # of the sequence; longer runs of outlier frames are left, since the others do not tell their motion
EF_TOLERANCE = (
    0.03  # by which a correction may leave the interval of ejection fractions that the input's jitter explains
)
END_PHASE_TOLERANCE = 3.0  # standard errors by which the volumes at end diastole and end systole may move
MIN_SINGLE_DICE = 0.85  # between a single frame and the valid shape that may replace it
SHRINKAGE_STEPS = 10  # from the latent of an invalid shape to the mean latent


@dataclass
class TemporalConsistencyPipelineOutput(BaseOutput):
    """Output of `TemporalConsistencyPipeline`.

    Args:
        labels: Label maps `(T, H, W)`, uint8, of the input's size; a `Scan` on the input's voxels if that was one.
        regenerated: Mask `(T,)`, bool, of frames that were replaced, by the fitted motion or by the VAE.
        smoothed: Mask `(T,)`, bool, of frames whose borders were freed from jitter.
        cleaned: Mask `(T,)`, bool, of frames in which only fragments and holes were removed.
        before: Measurements of the input.
        after: Measurements of the output.
        warnings: What to look at before the output is used; empty if there is nothing.
    """

    labels: Any
    regenerated: np.ndarray
    smoothed: np.ndarray
    cleaned: np.ndarray
    before: SequenceReport
    after: SequenceReport
    warnings: list[str]


class TemporalConsistencyPipeline(PublishedPipelineMixin, DiffusionPipeline):
    """Pipeline that makes segmentations of the left ventricle anatomically valid and temporally consistent.

    See Painchaud et al., IEEE TMI 2022 (method "smooth"); method "repair" changes only outlier frames.

    Args:
        vae: `AttributeVAE` of label maps with background, LV and myocardium, whose first attributes are those of
            `CARDIAC_ATTRIBUTES`.
        smoother: `TemporalSmoother` with limits from reference sequences.
        spacing: Edge length of the VAE's pixels in mm.

    Raises:
        ValueError: If the VAE encodes something else or other attributes, or the smoother limits other attributes.

    Example:
        >>> pipe = DiffusionPipeline.from_pretrained("meddiffusers/ar-vae-cardiac")
        >>> result = pipe(labels, spacing=0.62, cyclic=True)  # (T, H, W), pixels of 0.62 mm, one cardiac cycle
        >>> result.labels.shape, result.regenerated.sum(), result.after.ejection_fraction
    """

    model_cpu_offload_seq = "vae"  # type: ignore[assignment]
    vae: Any  # set by register_modules
    smoother: Any

    def __init__(self, vae: ModelMixin, smoother: Any, spacing: float = 1.25) -> None:
        super().__init__()
        self.register_modules(vae=vae, smoother=smoother)
        self.register_to_config(spacing=float(spacing))
        config, names = vae.config, tuple(CARDIAC_ATTRIBUTES)
        if config["likelihood"] != "categorical" or config["in_channels"] != 3:
            raise ValueError(
                f"The VAE is {config['likelihood']} with {config['in_channels']} channels; expected a categorical one "
                "of three labels: background, LV, myocardium."
            )
        if vae.image_size[0] != vae.image_size[1] or tuple(config["attributes"][: len(names)]) != names:
            raise ValueError(
                f"The VAE has images of {vae.image_size} pixels and the attributes "
                f"{', '.join(config['attributes']) or 'none'}; expected a square, and {', '.join(names)} first."
            )
        if tuple(smoother.attributes) != names:
            raise ValueError(f"The smoother limits {', '.join(smoother.attributes)}; expected {', '.join(names)}.")

    @torch.no_grad()
    def __call__(
        self,
        sequence: Any,
        spacing: float | tuple[float, float] | None = None,
        method: str = "repair",
        cyclic: bool = False,
        weight: float | None = None,
        attributes_only: bool = False,
        return_dict: bool = True,
    ) -> TemporalConsistencyPipelineOutput | tuple[Any, ...]:
        """Correct the label maps of one view.

        Args:
            sequence: Array or tensor `(T, H, W)`, apex up or down; or a `Scan` with the frames along its last axis or
                as its channels, or the path of one (NIfTI, MetaImage), which requires the package meddiffusers. With
                fewer than three frames, each invalid one is corrected by itself and becomes the nearest valid shape.
            spacing: Distances in mm between rows and between columns, or one number for both. Default: that of the
                scan, or of the VAE's pixels.
            method: "repair" or "smooth".
            cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.
            weight: For "smooth": smoothing weight of all latent dimensions. Default: chosen by the limits.
            attributes_only: For "smooth": keep latent dimensions without an attribute as they are.
            return_dict: Return a `TemporalConsistencyPipelineOutput` instead of a tuple.

        Returns:
            `TemporalConsistencyPipelineOutput`, or a tuple of its fields.

        Raises:
            ValueError: If the input is no sequence of label maps 0 to 3, no frame has a left ventricle, the method is
                unknown, or the smoother lacks the limits that it needs.
            ImportError: If a path is given and meddiffusers is not installed.
        """
        if method not in METHODS:
            raise ValueError(f"method={method!r}; expected one of {', '.join(METHODS)}.")
        check_flags(cyclic=cyclic, attributes_only=attributes_only)
        check_given_numbers(weight=weight)
        if weight is not None and weight < 0:
            raise ValueError(f"weight={weight}; expected a finite number of at least 0.")
        scan = to_scan(sequence)
        frames = to_label_maps(scan_to_frames(scan) if scan is not None else sequence)
        pixel_size = frame_spacing(scan) if scan is not None else self._spacing(spacing)
        flipped = is_upside_down(frames)
        upright = frames[:, ::-1] if flipped else frames
        region = lv_region(upright, pixel_size, self.vae.image_size[0], self.config["spacing"])
        before = self.report(upright, pixel_size, cyclic)
        smoothed = np.zeros(len(frames), bool)
        if len(frames) < 3:
            ventricles, regenerated = self._correct_single_frames(upright, region)
        elif method == "smooth":
            ventricles, regenerated = self._smooth(upright, region, weight, attributes_only)
        else:
            ventricles, regenerated, smoothed = self._repair(upright, before, region, cyclic)
        self.maybe_free_model_hooks()
        labels = add_atrium(ventricles, upright, regenerated)
        changed = (labels != upright).any(axis=(1, 2))
        after = update_report(before, upright, labels, pixel_size, self.smoother, cyclic)
        after = abstaining_report(after, changed)
        fractions = before.ejection_fraction, after.ejection_fraction
        messages = ejection_fraction_messages(fractions, before.ejection_fraction_interval)
        messages += abstention_messages(after)
        for message in messages:
            warnings.warn(message, stacklevel=2)
        cleaned = changed & ~regenerated & ~smoothed
        labels = np.ascontiguousarray(labels[:, ::-1] if flipped else labels)
        corrected = labels if scan is None else scan.like(frames_to_voxels(scan, labels))
        output = TemporalConsistencyPipelineOutput(corrected, regenerated, smoothed, cleaned, before, after, messages)
        return output if return_dict else output.to_tuple()

    def report(self, labels: np.ndarray, spacing: float | tuple[float, float], cyclic: bool = False) -> SequenceReport:
        """Measure attributes, temporal consistency and anatomical validity.

        Args:
            labels: Label maps `(T, H, W)`, apex up.
            spacing: Distances in mm between rows and between columns, or one number for both.
            cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.
        """
        return measure_sequence(labels, spacing, self.smoother, cyclic)

    def crop_lv_region(self, labels: np.ndarray, spacing: float | tuple[float, float] | None = None) -> np.ndarray:
        """Crop LV and myocardium to the region of interest, as `AttributeVAEPipeline` expects them.

        Args:
            labels: Label maps `(T, H, W)`, apex up.
            spacing: Distances in mm between rows and between columns. Default: that of the VAE's pixels.

        Returns:
            Label maps `(T, size, size)`, uint8.
        """
        size, spacing_vae = self.vae.image_size[0], self.config["spacing"]
        return lv_region(labels, self._spacing(spacing), size, spacing_vae).crop(labels)

    def _repair(
        self, frames: np.ndarray, before: SequenceReport, region: LVRegion, cyclic: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Method "repair": label maps (T, H, W), and the masks (T,) of regenerated and of smoothed frames."""
        none = np.zeros(len(frames), bool)
        wrong = _unusual(before.violations)
        cleaned = np.stack([clean_label_map(f) if bad else f for f, bad in zip(frames, wrong, strict=True)])
        report = update_report(before, frames, cleaned, region.frame_spacing, self.smoother, cyclic)
        usable = ~_unusual(report.violations) & np.isfinite(report.attributes).all(axis=1)
        if not report.violation or usable.sum() < 3:
            return cleaned, none, none
        motion = fit_border_motion(cleaned, usable, region.frame_spacing, cyclic)
        best, least = (cleaned, none, none), report.violation
        for candidate in self._candidates(cleaned, report, motion, region, cyclic):
            after = update_report(report, cleaned, candidate[0], region.frame_spacing, self.smoother, cyclic)
            kept = _keeps_end_phases(report, after, motion) and _keeps_ejection_fraction(report, after)
            if after.violation < least and kept:
                best, least = candidate, after.violation
        return best

    def _candidates(
        self, cleaned: np.ndarray, report: SequenceReport, motion: BorderMotion, region: LVRegion, cyclic: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Possible corrections: label maps (T, H, W), and the masks (T,) of regenerated and of smoothed frames."""
        none = np.zeros(len(cleaned), bool)
        outliers = motion.outliers & ~long_runs(motion.outliers, MAX_GAP * len(cleaned), cyclic)
        pixel = float(np.sqrt(np.prod(region.frame_spacing)))
        jitter = motion.noise > max(MIN_JITTER[0], MIN_JITTER[1] * pixel) and motion.gain < MAX_GAIN
        fitted = np.stack([clean_label_map(frame) for frame in motion.labels])
        bases = [none, *([~motion.outliers] if jitter else [])]
        for smoothed in bases:
            replaced = np.where((outliers | smoothed)[:, None, None], fitted, cleaned)
            yield replaced, outliers, smoothed
            if outliers.any():
                crops = region.crop(replaced)
                latents = self._shapes.encode(crops)
                least = self.smoother.config["min_reconstruction_dice"]
                agreeing = ~motion.outliers
                if self._shapes.reconstruct(crops[agreeing], latents[agreeing], least):
                    yield self._regenerate(replaced, latents, outliers, region, cyclic), outliers, smoothed

    def _smooth(
        self, frames: np.ndarray, region: LVRegion, weight: float | None, attributes_only: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Method "smooth": label maps (T, H, W), and the mask (T,) of regenerated frames, which are all."""
        latents, smoother = self._shapes.encode(region.crop(frames)), self.smoother
        count = len(CARDIAC_ATTRIBUTES)
        weights = np.full(latents.shape[1], smoother.config["residual_weight"] if weight is None else weight)
        if weight is None:
            if smoother.config["latent_limits"] is None:
                raise ValueError(
                    "This smoother has no limits of latents. Fit it with latents of references, or pass a weight."
                )
            weights[:count] = smoother.smallest_weights(latents[:, :count], smoother.config["latent_limits"][:count])
        if attributes_only:
            weights[count:] = 0
        labels = fields_to_labels(*self._shapes.fields(smoother.smooth(latents, weights), region))
        return labels, np.ones(len(frames), bool)

    def _correct_single_frames(self, frames: np.ndarray, region: LVRegion) -> tuple[np.ndarray, np.ndarray]:
        """Clean each frame by itself; if that leaves it invalid, decode the nearest shape, moved towards the mean.

        A frame of which no valid shape of the VAE shows most is left as it is.
        """
        result = np.stack([clean_label_map(frame) for frame in frames])
        invalid = np.asarray(anatomical_violations(result).any(axis=1))
        regenerated = np.zeros(len(frames), bool)
        if not invalid.any():
            return result, regenerated
        latents = self._shapes.fit(region.crop(frames[invalid]))
        for t, nearest in zip(np.flatnonzero(invalid), latents, strict=True):
            for share in np.linspace(0, 1, SHRINKAGE_STEPS + 1):
                latent = (1 - share) * nearest + share * self._shapes.mean
                shape = fields_to_labels(*self._shapes.fields(latent[None], region))
                if heart_dice(shape, result[t][None])[0] < MIN_SINGLE_DICE:
                    break
                if not anatomical_violations(shape).any():
                    result[t], regenerated[t] = shape[0], True
                    break
        return result, regenerated

    def _regenerate(
        self, labels: np.ndarray, latents: np.ndarray, outliers: np.ndarray, region: LVRegion, cyclic: bool
    ) -> np.ndarray:
        """Label maps (T, H, W) with outlier frames decoded from interpolated latents."""
        if not outliers.any():
            return labels
        interpolated = self.smoother.interpolate_missing(latents, outliers, cyclic)
        decoded = np.concatenate([np.flatnonzero(outliers), np.unique(neighbouring_frames(outliers))])
        fields = self._shapes.fields(interpolated[decoded], region)
        return replace_outliers(labels, outliers, fields, region.frame_spacing)

    @property
    def _shapes(self) -> LVShapes:
        return LVShapes(self.vae, self._execution_device)

    def _spacing(self, spacing: float | tuple[float, float] | None) -> tuple[float, float]:
        spacing = self.config["spacing"] if spacing is None else spacing
        rows, columns = spacing if isinstance(spacing, list | tuple) and len(spacing) == 2 else (spacing, spacing)
        check_numbers(**{"spacing (rows)": rows, "spacing (columns)": columns})
        if not (0 < rows < np.inf and 0 < columns < np.inf):
            raise ValueError(f"spacing={spacing}; expected mm above 0, one number or (rows, columns).")
        return float(rows), float(columns)


def _unusual(violations: np.ndarray) -> np.ndarray:
    """Mask (T,) of frames that violate a criterion which most frames meet; what most show is the heart or its view."""
    return np.asarray((violations & (violations.mean(axis=0) <= 0.5)).any(axis=1))


def _keeps_ejection_fraction(before: SequenceReport, after: SequenceReport) -> bool:
    """Whether the ejection fraction stays where the jitter allows it, or comes nearer to it."""
    low, high = before.ejection_fraction_interval
    outside = [max(low - each.ejection_fraction, each.ejection_fraction - high, 0.0) for each in (before, after)]
    return not np.isfinite(low) or outside[1] <= max(outside[0], EF_TOLERANCE)


def _keeps_end_phases(before: SequenceReport, after: SequenceReport, motion: BorderMotion) -> bool:
    """Whether the volumes at end diastole and end systole move by no more than the jitter explains."""
    old, new = (area_length_volumes(each.attributes) for each in (before, after))
    kept = ~motion.outliers & np.isfinite(old) & np.isfinite(new)
    if not kept.any():
        return True
    errors = prediction_errors(np.where(kept, old, 0), motion.matrix)[kept]
    old, new = old[kept], new[kept]
    moved = [abs(new[t] - old[t]) for t in (new.argmax(), new.argmin())]
    return bool(max(moved) <= END_PHASE_TOLERANCE * np.sqrt(np.mean(errors**2)) + 1e-9)
