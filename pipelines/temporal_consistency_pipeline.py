"""Make the segmented left ventricle of a moving heart anatomically valid and steady in time.

After Painchaud et al., IEEE TMI 2022, "Echocardiography segmentation with enforced temporal consistency". A VAE of
heart shapes, whose first latent dimensions follow measured attributes, gives each frame a latent vector; a
`TemporalSmoother` says how far attributes may bend from frame to frame.

| symbol | here | shape |
|---|---|---|
| labels | 0 outside, 1 cavity, 2 wall, 3 left atrium, which is carried along | (T, H, W) |
| z | latents of the frames, as the VAE sees them in a window around the heart | (T, K) |
| e / τ | `excess`: how an attribute bends over how it may | (T, A) |

method "smooth" is the paper's: every latent dimension is smoothed by the smallest weight that brings it within its
limit, and every frame is decoded anew, which flattens peaks and blurs what was right.

method "repair", the default, changes what is wrong and nothing else:

1. loose parts and holes go, where that makes a frame valid;
2. frames that are still invalid, that the VAE does not know as hearts, or that must be left out for the rest to be
   steady, are misfits;
3. their latents are those of the curve through the others that bends least, which keeps end diastole and end systole;
4. the decoded shape takes over how far its neighbours' true borders lie from their decoded ones.

Where more than half of the frames that look like hearts would be misfits, all of them are a little wrong: then latents
are smoothed, with more and more weight until the result is steady, and every frame is decoded.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from scipy import ndimage

from .meddiffusers_heart_scans_v1 import checked_labels, frames_of, scan_of, spacing_of, voxels_of
from .meddiffusers_heart_shapes_v1 import (
    CARDIAC_ATTRIBUTES,
    CAVITY,
    WALL,
    area_length_volumes,
    ejection_fraction,
    measure_hearts,
    upside_down,
)
from .meddiffusers_heart_validity_v1 import heart_issues, tidied
from .meddiffusers_heart_windows_v1 import HeartWindow, heart_window

PUBLISHED_AS = "meddiffusers_temporal_consistency_pipeline_v1"  # `custom_pipeline` name of a published repository
SHARED = tuple(f"meddiffusers_heart_{name}_v1.py" for name in ("scans", "shapes", "validity", "windows"))
METHODS = ("repair", "smooth")
ATRIUM = 3
ROUNDS = 4  # of looking again at what was repaired
MOST = 0.5  # of the frames that look like hearts, to be drawn anew one by one
WEIGHTS = tuple(2.0**power for power in range(-1, 9))  # of the second differences, tried where too few can be kept
FIT_STEPS, FIT_RATE, FIT_PRIOR = 80, 0.1, 1e-3  # of the shape nearest to a frame
BLUR, GAP = 0.7, 4  # pixels; of how far borders lie apart, which has the steps of pixels; between heart and atrium
SHRINKING = 10  # steps from an invalid shape to the mean one


@dataclass(frozen=True)
class HeartReport:
    """What is measured of T frames.

    attributes: (T, 7) in the order and units of `CARDIAC_ATTRIBUTES`; NaN where there is too little to measure.
    excess: (T, 7) |e| / τ; above 1 where a frame is inconsistent.
    issues: (T, 8) bool, in the order of `meddiffusers_heart_validity_v1.ISSUES`.
    ejection_fraction: by area and length of this view.
    """

    attributes: np.ndarray
    excess: np.ndarray
    issues: np.ndarray
    ejection_fraction: float

    @property
    def inconsistent(self) -> np.ndarray:
        """(T,) bool: frames in which an attribute bends too far, or cannot be measured."""
        return np.logical_not((self.excess <= 1).all(axis=1))

    @property
    def invalid(self) -> np.ndarray:
        """(T,) bool: frames that no heart looks like."""
        return np.asarray(self.issues.any(axis=1))


@dataclass
class TemporalConsistencyPipelineOutput(BaseOutput):
    """What became of a sequence.

    labels: (T, H, W) uint8 of the size that came in, or a `Scan` on the voxels of the one that came in.
    redrawn: (T,) bool: frames that were drawn by the VAE.
    tidied: (T,) bool: frames of which loose parts and holes are gone, and nothing else.
    before, after: reports.
    """

    labels: Any
    redrawn: np.ndarray
    tidied: np.ndarray
    before: HeartReport
    after: HeartReport


class TemporalConsistencyPipeline(DiffusionPipeline):
    """Repairs sequences of label maps of the left ventricle.

    vae: an `AttributeVAE` of the label maps 0, 1, 2, whose first attributes are those of `CARDIAC_ATTRIBUTES`.
    smoother: a `TemporalSmoother`, fitted.
    spacing: edge length in mm of the VAE's pixels.

    Raises:
        ValueError: a VAE of something else or of other attributes, or a smoother with limits of others.
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
                "of three labels: outside, cavity, wall."
            )
        if vae.image_size[0] != vae.image_size[1] or tuple(config["attributes"][: len(names)]) != names:
            raise ValueError(
                f"The VAE sees {vae.image_size} pixels and knows {', '.join(config['attributes']) or 'no attribute'}; "
                f"expected a square, and {', '.join(names)} first."
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
        """Repair one view's label maps.

        sequence: an array or tensor (T, H, W), apex up or down; a `Scan` with the frames on its last axis or as its
            channels, or the path of one (NIfTI, MetaImage), for which the package meddiffusers must be installed. A
            single frame (T = 1, or (H, W)) becomes the nearest valid shape.
        spacing: mm of a pixel, downwards and across; of an array by default that of the VAE's pixels.
        method: "repair" or "smooth".
        cyclic: the last frame shows the heart as the first did.
        weight: of "smooth": this one for every latent dimension.
        attributes_only: of "smooth": dimensions without an attribute stay as they are.

        Raises:
            ValueError: another number of axes, labels other than 0 to 3, no heart in any frame, fewer than two frames
                of which a heart can be made out, an unknown method, or a smoother that is not fitted for it.
            ImportError: scans without meddiffusers.
        """
        if method not in METHODS:
            raise ValueError(f"method={method!r}; expected one of {', '.join(METHODS)}.")
        scan = scan_of(sequence)
        frames = checked_labels(frames_of(scan) if scan is not None else sequence)
        edges = spacing_of(scan) if scan is not None else self._spacing(spacing)
        flipped = upside_down(frames)
        upright = frames[:, ::-1] if flipped else frames
        window = heart_window(upright, edges, self.vae.image_size[0], self.config["spacing"])
        before = self.report(upright, edges, cyclic)
        if len(frames) < 3:
            hearts, redrawn = self._single(upright, window)
        elif method == "smooth":
            hearts, redrawn = self._smooth(upright, window, weight, attributes_only)
        else:
            hearts, redrawn = self._repair(upright, before, window, cyclic)
        self.maybe_free_model_hooks()
        labels = _with_atrium(hearts, upright, redrawn)
        after = self._updated(before, upright, labels, edges, cyclic)
        changed = (labels != upright).any(axis=(1, 2))
        labels = np.ascontiguousarray(labels[:, ::-1] if flipped else labels)
        output = TemporalConsistencyPipelineOutput(
            labels if scan is None else scan.like(voxels_of(scan, labels)), redrawn, changed & ~redrawn, before, after
        )
        return output if return_dict else output.to_tuple()

    def report(self, labels: np.ndarray, spacing: float | tuple[float, float], cyclic: bool = False) -> HeartReport:
        """Attributes, their consistency, and issues of label maps (T, H, W), apex up."""
        return self._report(measure_hearts(labels, spacing), heart_issues(labels), cyclic)

    def _report(self, attributes: np.ndarray, issues: np.ndarray, cyclic: bool) -> HeartReport:
        fraction = ejection_fraction(area_length_volumes(attributes))
        return HeartReport(attributes, self.smoother.excess(attributes, cyclic), issues, fraction)

    def _updated(
        self, report: HeartReport, before: np.ndarray, after: np.ndarray, spacing: tuple[float, float], cyclic: bool
    ) -> HeartReport:
        """The report of frames of which some are as they were when `report` was made."""
        changed = (_heart_only(before) != _heart_only(after)).any(axis=(1, 2))
        attributes, issues = report.attributes.copy(), report.issues.copy()
        attributes[changed], issues[changed] = measure_hearts(after[changed], spacing), heart_issues(after[changed])
        return self._report(attributes, issues, cyclic)

    def seen(self, labels: np.ndarray, spacing: float | tuple[float, float] | None = None) -> np.ndarray:
        """Cavity and wall of label maps (T, H, W), apex up, in the square that the VAE sees, as its own pipeline takes
        them."""
        return heart_window(labels, self._spacing(spacing), self.vae.image_size[0], self.config["spacing"]).cut(labels)

    def to_json_string(self) -> str:
        """`model_index.json`, without the folder the pipeline happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write `model_index.json` and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))
        for name in SHARED:  # which lie beside this file wherever it is run
            shutil.copyfile(Path(__file__).with_name(name), Path(save_directory, name))

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> TemporalConsistencyPipeline:
        """As in diffusers, which by itself keeps components only where their very class is annotated above."""
        kept = {name: part for name, part in pipeline.components.items() if name in ("vae", "smoother")}
        return super().from_pipe(pipeline, **{**kept, **kwargs})

    # The ways

    def _repair(
        self, frames: np.ndarray, before: HeartReport, window: HeartWindow, cyclic: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hearts (T, H, W) and which frames were drawn anew (T,)."""
        tidy = np.stack(
            [tidied(frame) if wrong else frame for frame, wrong in zip(frames, before.invalid, strict=True)]
        )
        report = self._updated(before, frames, tidy, window.spacing, cyclic)
        seen = window.cut(tidy)
        latents = self._encode(seen)
        strange = agreement(self._decoded(latents).argmax(axis=1), seen) < self.smoother.config["agreement"]
        misfits = report.invalid | strange if (~(report.invalid | strange)).sum() > 1 else report.invalid
        if (~misfits).sum() < 2:
            raise ValueError(
                f"{int(misfits.sum())} of {len(frames)} frames do not show a left ventricle; expected at least two "
                "that do. Segment them anew, or give single frames, each of which becomes the nearest valid shape."
            )
        result, hearts = tidy, ~misfits
        for _ in range(ROUNDS):
            found = self.smoother.misfits(report.attributes, misfits | report.invalid, cyclic)
            if result is not tidy and (found == misfits).all():  # then some that are kept must follow the drawn ones
                found = misfits | (np.convolve(report.inconsistent, [1, 1, 1], "same") > 0)
            if (found & hearts).sum() > MOST * hearts.sum():
                return self._steadied(latents, report, window, cyclic), np.ones(len(frames), bool)
            misfits = found
            drawn = self._redrawn(tidy, latents, misfits, window, cyclic)
            report, result = self._updated(report, result, drawn, window.spacing, cyclic), drawn
            if not report.inconsistent.any() and not report.invalid.any():
                break
        return result, misfits

    def _steadied(self, latents: np.ndarray, report: HeartReport, window: HeartWindow, cyclic: bool) -> np.ndarray:
        """All frames drawn anew, of latents that are smoothed no more than needed; invalid frames count for nothing."""
        confidence = np.where(report.invalid, 0.0, 1.0)
        for weight in WEIGHTS:
            smoothed = self.smoother.smooth(latents, weight, confidence, order=2, cyclic=cyclic)
            result = _labels(*self._fields(smoothed, window))
            found = self.report(result, window.spacing, cyclic)
            if not found.inconsistent.any() and not found.invalid.any():
                break
        return result

    def _smooth(
        self, frames: np.ndarray, window: HeartWindow, weight: float | None, attributes_only: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """All frames drawn anew, of smoothed latents."""
        latents, smoother = self._encode(window.cut(frames)), self.smoother
        count = len(CARDIAC_ATTRIBUTES)
        weights = np.full(latents.shape[1], smoother.config["residual_weight"] if weight is None else weight)
        if weight is None:
            if smoother.config["latent_limits"] is None:
                raise ValueError(
                    "This smoother has no limits of latents. Fit it with those of references, or give a weight."
                )
            weights[:count] = smoother.smallest_weights(latents[:, :count], smoother.config["latent_limits"][:count])
        if attributes_only:
            weights[count:] = 0
        labels = _labels(*self._fields(smoother.smooth(latents, weights), window))
        return labels, np.ones(len(frames), bool)

    def _single(self, frames: np.ndarray, window: HeartWindow) -> tuple[np.ndarray, np.ndarray]:
        """Each frame by itself: as it is if valid, else tidied, else the VAE's idea of it, drawn towards its mean."""
        result = np.stack([tidied(frame) for frame in frames])
        broken = np.asarray(heart_issues(result).any(axis=1))
        if not broken.any():
            return result, broken
        for number, nearest in zip(np.flatnonzero(broken), self._nearest(window.cut(frames[broken])), strict=True):
            for share in np.linspace(0, 1, SHRINKING + 1):
                latent = (1 - share) * nearest + share * self._mean
                result[number] = _labels(*self._fields(latent[None], window))[0]
                if not heart_issues(result[number][None]).any():
                    break
        return result, broken

    # Steps of them

    @property
    def _mean(self) -> np.ndarray:
        """(K,) of the latents of hearts."""
        moments = self.vae.config["latent_moments"]
        return np.asarray(moments["mean"] if moments else np.zeros(self.vae.config["latent_dim"]))

    @torch.inference_mode(False)  # within that of a caller, too
    @torch.enable_grad()
    def _nearest(self, labels: np.ndarray) -> np.ndarray:
        """Latents (T, K) of the shapes that overlap most with label maps in the window, as no encoder of hearts tells
        them of what is none."""
        given = torch.from_numpy(np.stack([labels == label for label in (CAVITY, WALL)], axis=1))
        given = given.to(self._execution_device, torch.float32)
        mean = torch.from_numpy(self._mean).to(given)
        latents = torch.from_numpy(self._encode(labels)).to(given).requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=FIT_RATE)
        for _ in range(FIT_STEPS):
            drawn = self.vae.decode(latents.to(self.vae.dtype)).sample.float().softmax(dim=1)[:, 1:]
            overlap = 2 * (drawn * given).sum(dim=(2, 3)) / (drawn + given).sum(dim=(2, 3)).clamp_min(1)
            loss = (1 - overlap).sum() + FIT_PRIOR * (latents - mean).square().sum()
            latents.grad = torch.autograd.grad(loss, latents)[0]
            optimizer.step()
        return latents.detach().double().cpu().numpy()

    def _redrawn(
        self, frames: np.ndarray, latents: np.ndarray, misfits: np.ndarray, window: HeartWindow, cyclic: bool
    ) -> np.ndarray:
        """Frames with the misfits drawn anew, their borders moved as those of their neighbours are."""
        if not misfits.any():
            return frames
        places = np.arange(len(frames))
        kept, missing = places[~misfits], places[misfits]
        after = np.searchsorted(kept, missing)
        neighbours = np.stack([kept[np.maximum(after - 1, 0)], kept[np.minimum(after, len(kept) - 1)]], axis=1)
        used = np.unique(neighbours)
        smooth = self.smoother.filled(latents, misfits, cyclic)
        chosen = np.concatenate([missing, used])
        drawn = [_distance(field > 0, window.spacing) for field in self._fields(smooth[chosen], window)]
        true = [_distance(mask, window.spacing) for mask in _masks(frames[used])]
        result = frames.copy()
        for number, (t, (first, last)) in enumerate(zip(missing, neighbours, strict=True)):
            share = 0.5 if first == last else (t - first) / (last - first)
            fields = []
            for of_drawn, of_true in zip(drawn, true, strict=True):
                moved = ndimage.gaussian_filter(of_true - of_drawn[len(missing) :], (0, BLUR, BLUR))
                low, high = (moved[np.searchsorted(used, each)] for each in (first, last))
                fields.append(of_drawn[number] + (1 - share) * low + share * high)
            result[t] = tidied(_labels(*(field[None] for field in fields))[0])
        return result

    def _encode(self, labels: np.ndarray) -> np.ndarray:
        """Posterior means (T, K), float64, of label maps in the window (T, h, w)."""
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 3).permute(0, 3, 1, 2)
        mean = self.vae.encode(one_hot.to(self._execution_device, self.vae.dtype)).latent_dist.mode()
        return mean.detach().double().cpu().numpy()

    def _decoded(self, latents: np.ndarray) -> np.ndarray:
        """Probabilities of the labels (T, 3, h, w) in the window."""
        z = torch.from_numpy(latents).to(self._execution_device, self.vae.dtype)
        return self.vae.expectation(self.vae.decode(z).sample.float()).cpu().numpy()

    def _fields(self, latents: np.ndarray, window: HeartWindow) -> tuple[np.ndarray, np.ndarray]:
        """Of cavity and heart (T, H, W), above 0 inside, of latents (T, K)."""
        probabilities = self._decoded(latents)
        cavity, heart = probabilities[:, CAVITY], 1 - probabilities[:, 0]
        return window.paste(cavity - 0.5), window.paste(heart - 0.5)

    def _spacing(self, spacing: float | tuple[float, float] | None) -> tuple[float, float]:
        spacing = self.config["spacing"] if spacing is None else spacing
        rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
        if not (rows > 0 and columns > 0):
            raise ValueError(f"spacing={spacing}; expected mm above 0, one number or (rows, columns).")
        return float(rows), float(columns)


def _heart_only(frames: np.ndarray) -> np.ndarray:
    """Cavity and wall, without the atrium."""
    return np.where(frames == ATRIUM, 0, frames)


def _masks(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of cavity and heart."""
    return frames == CAVITY, (frames == CAVITY) | (frames == WALL)


def _labels(cavity: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """Label maps of fields (T, H, W), above 0 inside."""
    return np.where(heart > 0, np.where(cavity > 0, CAVITY, WALL), 0).astype(np.uint8)


def _distance(masks: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """(T, H, W) mm to the border, positive inside."""
    half = np.sqrt(spacing[0] * spacing[1]) / 2

    def of(mask: np.ndarray) -> np.ndarray:
        inside, outside = (ndimage.distance_transform_edt(part, spacing) for part in (mask, ~mask))
        return np.where(mask, inside - half, half - outside).astype(np.float32)

    return np.stack([of(mask) for mask in masks])


def agreement(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(T,) the smaller Dice of cavity and wall of two label maps (T, H, W)."""
    dice = []
    for label in (CAVITY, WALL):
        a, b = labels == label, others == label
        total = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        dice.append(2 * (a & b).sum(axis=(1, 2)) / np.maximum(total, 1))
    return np.min(dice, axis=0)


def _with_atrium(hearts: np.ndarray, frames: np.ndarray, redrawn: np.ndarray) -> np.ndarray:
    """Hearts with the left atrium of the frames where it is free; where drawn anew, with that of the nearest other."""
    places, kept = np.arange(len(frames)), np.flatnonzero(~redrawn)
    if kept.size:
        frames = frames[kept[np.abs(places[:, None] - kept).argmin(axis=1)]]
    clean = _heart_only(hearts)
    result = np.where((clean == 0) & (frames == ATRIUM), ATRIUM, clean).astype(np.uint8)
    for number in np.flatnonzero(redrawn & (result == ATRIUM).any(axis=(1, 2))):  # the base has moved
        frame = result[number]
        joined = ndimage.binary_closing(frame > 0, iterations=GAP // 2)
        near = ndimage.binary_dilation(frame == ATRIUM, iterations=GAP)
        frame[joined & near & (frame == 0)] = ATRIUM
    return result
