"""The contract with a small VAE, and corrections of known errors by the shipped repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.pipeline_contract import ComponentsContract, seeded
from contracts.published_contract import PublishedContract

from meddiffusers import AttributeVAE, TemporalConsistencyPipeline, TemporalSmoother
from meddiffusers.data.io import read, write
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupt_sequence
from meddiffusers.data.phantoms.cardiac.errors import corrupt_frame
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.cardiac_frames import jitter_borders
from meddiffusers.hub.load import load
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "ar-vae-cardiac"
SPACING, FRAMES = 1.25, 25
CLEANED = ("hole_lv", "hole_myo", "fragment")


def cardiac_cycle(seed: int = 300_500, frames: int = FRAMES, **kwargs: Any) -> np.ndarray:
    phantom = CardiacPhantom(seed)
    return phantom.labels(phantom.phases(frames), **kwargs)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    pairs = [(a == label, b == label) for label in (1, 2)]
    return float(np.mean([2 * (x & y).sum() / (x.sum() + y.sum()) for x, y in pairs]))


class TestTemporalConsistencyPipeline(ComponentsContract, PublishedContract):
    """The VAE is untrained, so `images` are the frames that it decodes with method "smooth"."""

    def build(self) -> TemporalConsistencyPipeline:
        with seeded():
            vae = AttributeVAE(
                in_channels=3,
                sample_size=128,
                block_out_channels=[4, 4],
                hidden_dim=8,
                latent_dim=8,
                attributes=list(CARDIAC_ATTRIBUTES),
                likelihood="categorical",
            )
        attributes = measure_cardiac_attributes(cardiac_cycle(3), SPACING)
        latents = np.random.default_rng(0).standard_normal((FRAMES, 8))
        smoother = TemporalSmoother.from_references([attributes], list(CARDIAC_ATTRIBUTES), [latents])
        return TemporalConsistencyPipeline(vae.eval(), smoother)

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {"sequence": cardiac_cycle(4, 3 * batch_size), "spacing": SPACING, "method": "smooth"}

    def images(self, pipeline: Any, batch_size: int = 2, **kwargs: Any) -> Any:
        return pipeline(**self.arguments(batch_size), **kwargs).labels.astype(np.float32)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load(CHECKPOINT)


@pytest.mark.slow
def test_a_clean_sequence_stays_unchanged(pipe: Any) -> None:
    clean = cardiac_cycle()
    result = pipe(clean, SPACING, cyclic=True)
    np.testing.assert_array_equal(result.labels, clean)
    assert not result.regenerated.any() and not result.cleaned.any() and not result.before.inconsistent.any()


@pytest.mark.parametrize("kind", CLEANED)
@pytest.mark.slow
def test_fragments_and_holes_are_removed_exactly(pipe: Any, kind: str) -> None:
    clean = cardiac_cycle()
    corrupted = clean.copy()
    corrupted[9] = corrupt_frame(clean[9], kind, SPACING, np.random.default_rng(0))[0]
    result = pipe(corrupted, SPACING, cyclic=True)
    np.testing.assert_array_equal(np.isin(result.labels, (1, 2)), np.isin(clean, (1, 2)))
    np.testing.assert_array_equal(result.labels == 1, clean == 1)
    assert np.flatnonzero(result.cleaned).tolist() == [9] and not result.regenerated.any()
    assert result.before.invalid[9] and not result.after.invalid.any()


@pytest.mark.parametrize("kind", ["jump", "rotate", "lv_over", "lv_under", "leak", "apex_cut", "missing_myo"])
@pytest.mark.parametrize("frame", [0, 9, 17])
@pytest.mark.slow
def test_only_the_outlier_frame_is_regenerated(pipe: Any, kind: str, frame: int) -> None:
    clean = cardiac_cycle()
    corrupted = clean.copy()
    corrupted[frame] = corrupt_frame(clean[frame], kind, SPACING, np.random.default_rng(1))[0]
    result = pipe(corrupted, SPACING, cyclic=True)
    assert np.flatnonzero(result.regenerated).tolist() == [frame]
    others = np.setdiff1d(np.arange(FRAMES), [frame])
    np.testing.assert_array_equal(result.labels[others], clean[others])
    assert dice(result.labels[frame], clean[frame]) > max(0.95, dice(corrupted[frame], clean[frame]))
    assert not result.after.inconsistent.any() and not result.after.invalid.any()


@pytest.mark.slow
def test_inference_mode_changes_nothing(pipe: Any) -> None:
    corrupted = cardiac_cycle()
    corrupted[9] = corrupt_frame(corrupted[9], "jump", SPACING, np.random.default_rng(1))[0]
    with torch.inference_mode():
        within = pipe(corrupted, SPACING, cyclic=True)
    np.testing.assert_array_equal(within.labels, pipe(corrupted, SPACING, cyclic=True).labels)


@pytest.mark.slow
def test_end_diastole_and_end_systole_are_preserved(pipe: Any) -> None:
    clean = cardiac_cycle(300_600)
    corrupted, errors = corrupt_sequence(clean, SPACING, 5, 0.25)
    assert len(errors) > 4
    truth = pipe.report(clean, SPACING, True).ejection_fraction
    repaired, smoothed = (pipe(corrupted, SPACING, cyclic=True, method=method).after for method in ("repair", "smooth"))
    assert abs(repaired.ejection_fraction - truth) < 0.02 < abs(smoothed.ejection_fraction - truth)


@pytest.mark.slow
def test_orientation_and_spacing_do_not_matter(pipe: Any) -> None:
    clean = cardiac_cycle()
    corrupted = clean.copy()
    corrupted[9] = corrupt_frame(clean[9], "rotate", SPACING, np.random.default_rng(1))[0]
    expected = pipe(corrupted, SPACING, cyclic=True)
    flipped = pipe(corrupted[:, ::-1], SPACING, cyclic=True)
    np.testing.assert_array_equal(flipped.labels[:, ::-1], expected.labels)
    fine = cardiac_cycle(shape=(256, 256), spacing=0.625)
    corrupted_fine = fine.copy()
    corrupted_fine[9] = corrupted[9].repeat(2, axis=0).repeat(2, axis=1)
    result = pipe(corrupted_fine, 0.625, cyclic=True)
    assert np.flatnonzero(result.regenerated).tolist() == [9] and dice(result.labels[9], fine[9]) > 0.95


@pytest.mark.slow
def test_a_scan_is_returned_on_its_voxels(pipe: Any, tmp_path: Path) -> None:
    clean = cardiac_cycle()
    corrupted = clean.copy()
    corrupted[9] = corrupt_frame(clean[9], "leak", SPACING, np.random.default_rng(1))[0]
    affine = np.diag([-SPACING, -SPACING, 1.0, 1.0])
    expected = pipe(corrupted, SPACING, cyclic=True).labels
    scan = Scan(np.ascontiguousarray(corrupted.transpose(2, 1, 0)), affine, "labels")
    write(scan, tmp_path / "cycle_gt.nii.gz")
    for source in (scan, tmp_path / "cycle_gt.nii.gz"):
        result = pipe(source, cyclic=True).labels
        np.testing.assert_array_equal(result.array[0].transpose(2, 1, 0), expected)
        np.testing.assert_allclose(result.affine, affine)
    channels = Scan(corrupted.transpose(0, 2, 1)[..., None], affine, ("labels",) * FRAMES)
    np.testing.assert_array_equal(pipe(channels, cyclic=True).labels.array[..., 0].transpose(0, 2, 1), expected)
    write(result, tmp_path / "again.nii.gz")
    assert read(tmp_path / "again.nii.gz", modality="labels").shape == scan.shape


@pytest.mark.slow
def test_single_frames_become_the_nearest_valid_shape(pipe: Any) -> None:
    clean = cardiac_cycle()[4]
    for kind in ("leak", "missing_myo", "hole_lv"):
        corrupted = corrupt_frame(clean, kind, SPACING, np.random.default_rng(2))[0]
        result = pipe(corrupted, SPACING)
        assert result.before.invalid.all() and not result.after.invalid.any()
        assert dice(result.labels[0], clean) > 0.85
    np.testing.assert_array_equal(pipe(clean, SPACING).labels[0], clean)


@pytest.mark.slow
def test_method_smooth_regenerates_every_frame(pipe: Any) -> None:
    corrupted = corrupt_sequence(cardiac_cycle(), SPACING, 3, 0.15)[0]
    result = pipe(corrupted, SPACING, method="smooth")
    assert result.regenerated.all()
    fixed = pipe(corrupted, SPACING, method="smooth", weight=128.0)
    alone = pipe(corrupted, SPACING, method="smooth", attributes_only=True)
    assert (
        np.nanmean(fixed.after.consistency_ratio)
        < np.nanmean(result.after.consistency_ratio)
        < np.nanmean(alone.after.consistency_ratio)
    )


@pytest.mark.slow
def test_a_single_frame_of_another_shape_is_left_and_said(pipe: Any) -> None:
    """A third of the heart is missing in the middle, so that no shape near it is valid."""
    torn = cardiac_cycle()[4]
    rows = np.flatnonzero((torn == 1).any(axis=1))
    torn[int(np.quantile(rows, 0.35)) : int(np.quantile(rows, 0.7))] = 0
    with pytest.warns(UserWarning, match="No correction made frames 0"):
        result = pipe(torn, SPACING)
    assert not result.regenerated.any() and result.after.invalid[0] and len(result.warnings) == 1


@pytest.mark.slow
def test_jitter_is_smoothed_and_the_ejection_fraction_has_an_interval(pipe: Any) -> None:
    clean = cardiac_cycle(300_700)
    jittered = jitter_borders(clean, SPACING, 1.2, np.random.default_rng(3))
    result = pipe(jittered, SPACING, cyclic=True)
    assert result.smoothed.sum() > 20 and dice(result.labels, clean) > dice(jittered, clean) + 0.01
    truth = pipe.report(clean, SPACING, True).ejection_fraction
    assert abs(result.after.ejection_fraction - truth) < abs(result.before.ejection_fraction - truth)
    widths = [np.ptp(report.ejection_fraction_interval) for report in (result.before, result.after)]
    assert widths[1] < widths[0] / 2


@pytest.mark.slow
def test_an_ejection_fraction_that_rested_on_a_wrong_frame_is_said(pipe: Any) -> None:
    corrupted = cardiac_cycle()
    corrupted[9][corrupted[9] == 1] = np.where(np.arange((corrupted[9] == 1).sum()) % 7 < 5, 2, 1)
    corrupted[9] = corrupt_frame(cardiac_cycle()[9], "lv_under", SPACING, np.random.default_rng(1))[0]
    result = pipe(corrupted, SPACING, cyclic=True)
    changed = abs(result.after.ejection_fraction - result.before.ejection_fraction)
    assert (changed > 0.03) == any("ejection fraction changed" in text for text in result.warnings)


@pytest.mark.slow
def test_what_most_frames_show_is_left(pipe: Any) -> None:
    """The sector cuts the wall off in all frames: nothing is drawn that was not seen."""
    cut = cardiac_cycle()
    column = int(np.flatnonzero((cut == 1).any(axis=(0, 1)))[-1]) - 3
    cut[:, :, column:] = 0
    with pytest.warns(UserWarning, match="No correction"):
        result = pipe(cut, SPACING, cyclic=True)
    np.testing.assert_array_equal(result.labels, cut)


@pytest.mark.slow
def test_the_atrium_is_kept(pipe: Any) -> None:
    clean = cardiac_cycle()
    corrupted = clean.copy()
    corrupted[9] = corrupt_frame(clean[9], "jump", SPACING, np.random.default_rng(1))[0]
    labels = pipe(corrupted, SPACING, cyclic=True).labels
    np.testing.assert_array_equal(np.delete(labels, 9, axis=0), np.delete(clean, 9, axis=0))
    atria = labels[9] == 3, clean[9] == 3
    assert 2 * (atria[0] & atria[1]).sum() / (atria[0].sum() + atria[1].sum()) > 0.93


@pytest.mark.parametrize(
    ("sequence", "settings", "message"),
    [
        (np.zeros((3, 40, 40), np.uint8), {}, "expected a segmented left ventricle"),
        (np.full((3, 40, 40), 5), {}, r"labels 5; expected 0 background"),
        (np.zeros((3, 40, 40, 2)), {}, r"expected label maps \(T, H, W\)"),
        (np.ones((3, 40, 40)), {"method": "magic"}, "expected one of repair, smooth"),
        (np.ones((3, 40, 40)), {"spacing": 0.0}, "expected mm above 0"),
        (np.ones((3, 40, 40)), {"spacing": True}, "expected a finite number"),
        (np.ones((3, 40, 40)), {"cyclic": 1}, "expected True or False"),
    ],
)
def test_invalid_arguments_are_refused(pipe: Any, sequence: np.ndarray, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(sequence, **settings)


def test_a_sequence_without_myocardium_is_left(pipe: Any) -> None:
    frames = np.ones((4, 40, 40), np.uint8)
    with pytest.warns(UserWarning, match="No correction made frames 0, 1, 2, 3 consistent"):
        np.testing.assert_array_equal(pipe(frames).labels, frames)


def test_unsuitable_components_are_refused(pipe: Any) -> None:
    other = AttributeVAE(sample_size=32, block_out_channels=[4])
    with pytest.raises(ValueError, match="expected a categorical one of three labels"):
        TemporalConsistencyPipeline(other, pipe.smoother)
    with pytest.raises(ValueError, match="expected a square, and lv_area"):
        TemporalConsistencyPipeline(
            AttributeVAE(in_channels=3, sample_size=32, block_out_channels=[4], likelihood="categorical"), pipe.smoother
        )
    with pytest.raises(ValueError, match="smoother limits a; expected lv_area"):
        TemporalConsistencyPipeline(pipe.vae, TemporalSmoother(["a"], {"a": 0.1}))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_vae_that_is_not_finite(part: str) -> None:
    pipeline = TestTemporalConsistencyPipeline().build()
    with torch.no_grad():
        next(getattr(pipeline.vae, part).parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=f"vae holds NaN or infinite values in the {part[:2]}coding of the frames"):
        pipeline(cardiac_cycle(4, 3), SPACING, method="smooth")


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_cannot_be_meant(pipe: Any, weight: float) -> None:
    with pytest.raises(ValueError, match=rf"weight={weight}; expected a finite number"):
        pipe(cardiac_cycle(), SPACING, method="smooth", weight=weight)


@pytest.mark.slow
def test_smoothing_without_limits_of_latents_needs_a_weight(pipe: Any) -> None:
    without_latents = TemporalSmoother.from_references(
        [measure_cardiac_attributes(cardiac_cycle(), SPACING)], list(CARDIAC_ATTRIBUTES)
    )
    other = TemporalConsistencyPipeline(pipe.vae, without_latents)
    with pytest.raises(ValueError, match="no limits of latents"):
        other(cardiac_cycle(), SPACING, method="smooth")
    assert other(cardiac_cycle(), SPACING, method="smooth", weight=1.0).regenerated.all()


@pytest.mark.slow
def test_tensors_are_accepted(pipe: Any) -> None:
    clean = cardiac_cycle(frames=5)
    np.testing.assert_array_equal(pipe(torch.from_numpy(clean), SPACING).labels, pipe(clean, SPACING).labels)
