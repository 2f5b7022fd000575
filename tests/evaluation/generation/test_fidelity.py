"""What is said of drawn images: of real ones, of copies, and of noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from meddiffusers.evaluation.generation.fidelity import DECODED, evaluate_generation, nearest

MODALITIES = ("one", "other")
NEAR = "drawn images nearer to a training image than 99 % of held-out ones"


def blobs(count: int, seed: int) -> np.ndarray:
    """Bright spots; the second channel is the negative of the first."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    row, column, size = (rng.uniform(*ends, (count, 1, 1)) for ends in ((8, 24), (8, 24), (3, 6)))
    spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size**2))
    return np.stack([spot, 1 - spot], axis=1).astype(np.float32)


HELD_OUT, KNOWN = blobs(40, 1), blobs(60, 2)


class TestNearest:
    def test_a_copy_is_found(self) -> None:
        distance, number = nearest(KNOWN[[7, 3]], KNOWN)
        np.testing.assert_allclose(distance, 0, atol=1e-3)
        assert number.tolist() == [7, 3]

    def test_so_is_its_mirror_image(self) -> None:
        distance, number = nearest(KNOWN[[5], :, :, ::-1].copy(), KNOWN)
        assert distance[0] < 1e-3 and number.tolist() == [5]

    def test_the_distance_is_the_root_mean_square(self) -> None:
        black, grey = np.zeros((1, 2, 32, 32), np.float32), np.full((1, 2, 32, 32), 0.25, np.float32)
        assert nearest(black, grey)[0][0] == pytest.approx(0.25, rel=1e-5)


class TestReport:
    def test_real_images_are_no_different(self) -> None:
        report = evaluate_generation(blobs(40, 3), HELD_OUT, KNOWN, MODALITIES, dataset="blobs")
        halves = report.value("kernel distance, held-out halves")
        noise = evaluate_generation(
            np.random.default_rng(0).random((40, 2, 32, 32), np.float32), HELD_OUT, KNOWN, MODALITIES, dataset="blobs"
        )
        assert noise.value("kernel distance") > 20 * max(abs(report.value("kernel distance")), abs(halves))
        assert report.value(NEAR) < 0.1
        assert report.details["features"] == "EfficientNet-Lite0, ImageNet" and len(report.figures) == 2

    def test_copies_are_told(self) -> None:
        report = evaluate_generation(KNOWN[:40], HELD_OUT, KNOWN, MODALITIES, dataset="blobs")
        assert report.value(NEAR) == 1
        assert report.value("nearest training image, drawn") < 1e-3
        assert report.value("nearest training image, held-out") > 0.01

    def test_what_the_autoencoder_keeps_is_told_beside_it(self) -> None:
        smooth = gaussian_filter(HELD_OUT, (0, 0, 6, 6))
        report = evaluate_generation(smooth, HELD_OUT, KNOWN, MODALITIES, dataset="blobs", decoded=smooth)
        for figure in ("kernel distance{}", "nearest training image{}"):
            drawn = figure.format("" if "kernel" in figure else ", drawn")
            assert report.value(figure.format(f", {DECODED}")) == pytest.approx(report.value(drawn))
        assert report.value(NEAR.replace("drawn images", DECODED)) == report.value(NEAR)
        assert report.value(f"kernel distance, {DECODED}") > 5 * abs(report.value("kernel distance, held-out halves"))
