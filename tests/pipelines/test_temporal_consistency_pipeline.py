"""The contract on a small network, and what the shipped one makes of hearts with known errors."""

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
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupted
from meddiffusers.data.phantoms.cardiac.errors import spoilt
from meddiffusers.data.scan import Scan
from meddiffusers.hub.load import load
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES, measure_hearts

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "ar-vae-cardiac"
SPACING, FRAMES = 1.25, 25
MENDED = ("hole_lv", "hole_myo", "fragment")


def beat(seed: int = 300_500, frames: int = FRAMES, **kwargs: Any) -> np.ndarray:
    phantom = CardiacPhantom(seed)
    return phantom.labels(phantom.phases(frames), **kwargs)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    pairs = [(a == label, b == label) for label in (1, 2)]
    return float(np.mean([2 * (x & y).sum() / (x.sum() + y.sum()) for x, y in pairs]))


class TestTemporalConsistencyPipeline(ComponentsContract, PublishedContract):
    """The network knows nothing yet, so `images` are frames drawn by it, in the paper's way."""

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
        attributes = measure_hearts(beat(3), SPACING)
        latents = np.random.default_rng(0).standard_normal((FRAMES, 8))
        smoother = TemporalSmoother.fitted([attributes], list(CARDIAC_ATTRIBUTES), [latents])
        return TemporalConsistencyPipeline(vae.eval(), smoother)

    def arguments(self, batch_size: int) -> dict[str, Any]:
        return {"sequence": beat(4, 3 * batch_size), "spacing": SPACING, "method": "smooth"}

    def images(self, pipeline: Any, batch_size: int = 2, **kwargs: Any) -> Any:
        return pipeline(**self.arguments(batch_size), **kwargs).labels.astype(np.float32)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return load(CHECKPOINT)


def test_a_clean_sequence_comes_back_as_it_is(pipe: Any) -> None:
    clean = beat()
    result = pipe(clean, SPACING, cyclic=True)
    np.testing.assert_array_equal(result.labels, clean)
    assert not result.redrawn.any() and not result.tidied.any() and not result.before.inconsistent.any()


@pytest.mark.parametrize("kind", MENDED)
def test_loose_parts_and_holes_are_mended_exactly(pipe: Any, kind: str) -> None:
    clean = beat()
    broken = clean.copy()
    broken[9] = spoilt(clean[9], kind, SPACING, np.random.default_rng(0))[0]
    result = pipe(broken, SPACING, cyclic=True)
    np.testing.assert_array_equal(np.isin(result.labels, (1, 2)), np.isin(clean, (1, 2)))
    np.testing.assert_array_equal(result.labels == 1, clean == 1)
    assert np.flatnonzero(result.tidied).tolist() == [9] and not result.redrawn.any()
    assert result.before.invalid[9] and not result.after.invalid.any()


@pytest.mark.parametrize("kind", ["jump", "rotate", "lv_over", "lv_under", "leak", "apex_cut", "missing_myo"])
@pytest.mark.parametrize("frame", [0, 9, 17])
def test_a_wrong_frame_is_drawn_anew_and_no_other(pipe: Any, kind: str, frame: int) -> None:
    clean = beat()
    broken = clean.copy()
    broken[frame] = spoilt(clean[frame], kind, SPACING, np.random.default_rng(1))[0]
    result = pipe(broken, SPACING, cyclic=True)
    assert np.flatnonzero(result.redrawn).tolist() == [frame]
    others = np.setdiff1d(np.arange(FRAMES), [frame])
    np.testing.assert_array_equal(result.labels[others], clean[others])
    assert dice(result.labels[frame], clean[frame]) > max(0.95, dice(broken[frame], clean[frame]))
    assert not result.after.inconsistent.any() and not result.after.invalid.any()


def test_inference_mode_changes_nothing(pipe: Any) -> None:
    broken = beat()
    broken[9] = spoilt(broken[9], "jump", SPACING, np.random.default_rng(1))[0]
    with torch.inference_mode():
        within = pipe(broken, SPACING, cyclic=True)
    np.testing.assert_array_equal(within.labels, pipe(broken, SPACING, cyclic=True).labels)


def test_end_diastole_and_end_systole_are_kept(pipe: Any) -> None:
    clean = beat(300_600)
    broken, errors = corrupted(clean, SPACING, 5, 0.25)
    assert len(errors) > 4
    truth = pipe.report(clean, SPACING, True).ejection_fraction
    repaired, smoothed = (pipe(broken, SPACING, cyclic=True, method=method).after for method in ("repair", "smooth"))
    assert abs(repaired.ejection_fraction - truth) < 0.02 < abs(smoothed.ejection_fraction - truth)


def test_upside_down_or_finer_it_is_the_same_heart(pipe: Any) -> None:
    clean = beat()
    broken = clean.copy()
    broken[9] = spoilt(clean[9], "rotate", SPACING, np.random.default_rng(1))[0]
    expected = pipe(broken, SPACING, cyclic=True)
    flipped = pipe(broken[:, ::-1], SPACING, cyclic=True)
    np.testing.assert_array_equal(flipped.labels[:, ::-1], expected.labels)
    fine = beat(shape=(256, 256), spacing=0.625)
    turned = fine.copy()
    turned[9] = broken[9].repeat(2, axis=0).repeat(2, axis=1)
    result = pipe(turned, 0.625, cyclic=True)
    assert np.flatnonzero(result.redrawn).tolist() == [9] and dice(result.labels[9], fine[9]) > 0.95


def test_a_scan_comes_back_on_its_voxels(pipe: Any, tmp_path: Path) -> None:
    clean = beat()
    broken = clean.copy()
    broken[9] = spoilt(clean[9], "leak", SPACING, np.random.default_rng(1))[0]
    affine = np.diag([-SPACING, -SPACING, 1.0, 1.0])
    expected = pipe(broken, SPACING, cyclic=True).labels
    scan = Scan(np.ascontiguousarray(broken.transpose(2, 1, 0)), affine, "labels")
    write(scan, tmp_path / "beat_gt.nii.gz")
    for source in (scan, tmp_path / "beat_gt.nii.gz"):
        result = pipe(source, cyclic=True).labels
        np.testing.assert_array_equal(result.array[0].transpose(2, 1, 0), expected)
        np.testing.assert_allclose(result.affine, affine)
    channels = Scan(broken.transpose(0, 2, 1)[..., None], affine, ("labels",) * FRAMES)
    np.testing.assert_array_equal(pipe(channels, cyclic=True).labels.array[..., 0].transpose(0, 2, 1), expected)
    write(result, tmp_path / "again.nii.gz")
    assert read(tmp_path / "again.nii.gz", modality="labels").shape == scan.shape


def test_single_frames_become_the_nearest_valid_shape(pipe: Any) -> None:
    clean = beat()[4]
    for kind in ("leak", "missing_myo", "hole_lv"):
        broken = spoilt(clean, kind, SPACING, np.random.default_rng(2))[0]
        result = pipe(broken, SPACING)
        assert result.before.invalid.all() and not result.after.invalid.any()
        assert dice(result.labels[0], clean) > 0.85
    np.testing.assert_array_equal(pipe(clean, SPACING).labels[0], clean)


def test_the_paper_smooths_every_frame(pipe: Any) -> None:
    broken = corrupted(beat(), SPACING, 3, 0.15)[0]
    result = pipe(broken, SPACING, method="smooth")
    assert result.redrawn.all()
    fixed = pipe(broken, SPACING, method="smooth", weight=128.0)
    alone = pipe(broken, SPACING, method="smooth", attributes_only=True)
    assert np.nanmean(fixed.after.excess) < np.nanmean(result.after.excess) < np.nanmean(alone.after.excess)


def test_the_atrium_is_carried_along(pipe: Any) -> None:
    clean = beat()
    broken = clean.copy()
    broken[9] = spoilt(clean[9], "jump", SPACING, np.random.default_rng(1))[0]
    labels = pipe(broken, SPACING, cyclic=True).labels
    np.testing.assert_array_equal(np.delete(labels, 9, axis=0), np.delete(clean, 9, axis=0))
    atria = labels[9] == 3, clean[9] == 3
    assert 2 * (atria[0] & atria[1]).sum() / (atria[0].sum() + atria[1].sum()) > 0.93


@pytest.mark.parametrize(
    ("sequence", "settings", "message"),
    [
        (np.zeros((3, 40, 40), np.uint8), {}, "expected a segmented left ventricle"),
        (np.full((3, 40, 40), 5), {}, r"labels 5; expected 0 outside"),
        (np.zeros((3, 40, 40, 2)), {}, r"expected label maps \(T, H, W\)"),
        (np.ones((3, 40, 40)), {"method": "magic"}, "expected one of repair, smooth"),
        (np.ones((3, 40, 40)), {"spacing": 0.0}, "expected mm above 0"),
        (np.ones((4, 40, 40)), {}, "expected at least two"),
    ],
)
def test_what_cannot_be_repaired_is_refused(pipe: Any, sequence: np.ndarray, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(sequence, **settings)


def test_other_networks_are_refused(pipe: Any) -> None:
    other = AttributeVAE(sample_size=32, block_out_channels=[4])
    with pytest.raises(ValueError, match="expected a categorical one of three labels"):
        TemporalConsistencyPipeline(other, pipe.smoother)
    with pytest.raises(ValueError, match="expected a square, and lv_area"):
        TemporalConsistencyPipeline(
            AttributeVAE(in_channels=3, sample_size=32, block_out_channels=[4], likelihood="categorical"), pipe.smoother
        )
    with pytest.raises(ValueError, match="smoother limits a; expected lv_area"):
        TemporalConsistencyPipeline(pipe.vae, TemporalSmoother(["a"], {"a": 0.1}))


def test_a_smoother_without_limits_of_latents_cannot_smooth_by_them(pipe: Any) -> None:
    bare = TemporalSmoother.fitted([measure_hearts(beat(), SPACING)], list(CARDIAC_ATTRIBUTES))
    other = TemporalConsistencyPipeline(pipe.vae, bare)
    with pytest.raises(ValueError, match="no limits of latents"):
        other(beat(), SPACING, method="smooth")
    assert other(beat(), SPACING, method="smooth", weight=1.0).redrawn.all()


def test_tensors_serve_too(pipe: Any) -> None:
    clean = beat(frames=5)
    np.testing.assert_array_equal(pipe(torch.from_numpy(clean), SPACING).labels, pipe(clean, SPACING).labels)
