"""Metrics of generated images that are real ones, copies, or noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from meddiffusers.evaluation.generation.fidelity import evaluate_generation, nearest_images

pytestmark = pytest.mark.usefixtures("small_features")

MODALITIES = ("one", "other")


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
        distance, index = nearest_images(KNOWN[[7, 3]], KNOWN)
        np.testing.assert_allclose(distance, 0, atol=1e-3)
        assert index.tolist() == [7, 3]

    def test_so_is_its_mirror_image(self) -> None:
        distance, index = nearest_images(KNOWN[[5], :, :, ::-1].copy(), KNOWN)
        assert distance[0] < 1e-3 and index.tolist() == [5]

    def test_the_distance_is_the_root_mean_square(self) -> None:
        black, grey = np.zeros((1, 2, 32, 32), np.float32), np.full((1, 2, 32, 32), 0.25, np.float32)
        assert nearest_images(black, grey)[0][0] == pytest.approx(0.25, rel=1e-5)


class TestReport:
    @pytest.mark.slow
    def test_real_images_are_no_different(self) -> None:
        report = evaluate_generation(blobs(40, 3), HELD_OUT, KNOWN, MODALITIES, dataset="blobs")
        halves = report.value("kid_held_out")
        noise = evaluate_generation(
            np.random.default_rng(0).random((40, 2, 32, 32), np.float32), HELD_OUT, KNOWN, MODALITIES, dataset="blobs"
        )
        assert noise.value("kid") > 20 * max(abs(report.value("kid")), abs(halves))
        assert report.value("nn_copies") < 0.1
        assert report.details["features"] == "EfficientNet-Lite0, ImageNet" and len(report.figures) == 2

    @pytest.mark.parametrize(
        ("count", "left_out"),
        [(8, ""), (7, "kid_held_out"), (3, "kid, kid_held_out"), (1, "kid, kid_held_out, frechet_distance")],
    )
    def test_what_the_images_are_too_few_for_is_left_out_and_told(self, count: int, left_out: str) -> None:
        report = evaluate_generation(blobs(8, 3), HELD_OUT[:count], KNOWN, MODALITIES, dataset="blobs")
        said = f"{left_out}: too few images (8 generated, {count} real)" if left_out else None
        assert report.details.get("left out") == said
        keys = {metric.key for metric in report.metrics}
        assert {"kid", "kid_held_out", "frechet_distance"} - keys == {*filter(None, left_out.split(", "))}
        assert "nn_copies" in keys

    @pytest.mark.slow
    def test_copies_are_detected(self) -> None:
        report = evaluate_generation(KNOWN[:40], HELD_OUT, KNOWN, MODALITIES, dataset="blobs")
        assert report.value("nn_copies") == 1
        assert report.value("nn_distance_generated") < 1e-3
        assert report.value("nn_distance_held_out") > 0.01

    @pytest.mark.slow
    def test_the_autoencoder_is_evaluated_too(self) -> None:
        smooth = gaussian_filter(HELD_OUT, (0, 0, 6, 6))
        report = evaluate_generation(smooth, HELD_OUT, KNOWN, MODALITIES, dataset="blobs", decoded=smooth)
        assert report.value("kid_autoencoder") == pytest.approx(report.value("kid"))
        assert report.value("nn_distance_autoencoder") == pytest.approx(report.value("nn_distance_generated"))
        assert report.value("nn_copies_autoencoder") == report.value("nn_copies")
        assert report.value("kid_autoencoder") > 5 * abs(report.value("kid_held_out"))

    @pytest.mark.slow
    def test_the_extractor_is_part_of_the_name(self) -> None:
        report = evaluate_generation(HELD_OUT, HELD_OUT, KNOWN, MODALITIES, dataset="blobs")
        assert report.metric("kid").name == "KID (EfficientNet-Lite0)"
        assert report.metric("kid_held_out").name == "KID (EfficientNet-Lite0), held-out halves"
        assert report.metric("frechet_distance").name == "Fréchet distance (EfficientNet-Lite0)"
