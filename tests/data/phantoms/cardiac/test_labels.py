from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac import CardiacPhantom

EIGHT_CONNECTED = np.ones((3, 3))


def violations(labels: np.ndarray) -> list[str]:
    """Anatomical criteria that a label map violates."""
    parts = {"LV": labels == 1, "myocardium": labels == 2, "both": np.isin(labels, (1, 2)), "atrium": labels == 3}
    violated = [f"{name} fragmented" for name, mask in parts.items() if ndimage.label(mask, EIGHT_CONNECTED)[1] != 1]
    parts["heart"] = labels > 0
    violated += [f"hole in {name}" for name, mask in parts.items() if (ndimage.binary_fill_holes(mask) != mask).any()]
    if (ndimage.binary_dilation(labels == 1) & (labels == 0)).any():
        violated.append("LV touches background")
    return violated


@pytest.mark.parametrize(("size", "spacing"), [(64, 2.5), (112, 1.5)])
@pytest.mark.slow
def test_every_heart_is_anatomically_valid(size: int, spacing: float) -> None:
    for seed in range(120):
        phantom = CardiacPhantom(seed, ("4CH", "2CH")[seed % 2])
        maps = phantom.labels(np.array([0, 0.2, phantom.end_systole, 0.6, 0.85]), (size, size), spacing)
        assert [violations(labels) for labels in maps] == [[]] * 5, seed
        assert not maps[:, 0].any()
        assert not maps[:, :, [0, -1]].any()


@pytest.mark.parametrize(("fraction", "seed"), [(0.3, 0), (0.55, 1), (0.75, 2)])
def test_ejection_fraction_and_areas_of_the_pixels_agree_with_the_ground_truth(fraction: float, seed: int) -> None:
    phantom = CardiacPhantom(seed, ejection_fraction=fraction)
    phases = np.array([0, phantom.end_systole])
    truth, labels = phantom.ground_truth(phases), phantom.labels(phases, (640, 640), 0.25)
    areas = (labels == 1).sum((1, 2)) * 0.25**2
    np.testing.assert_allclose(areas, truth["lv_area"], rtol=0.003)
    np.testing.assert_allclose((labels == 2).sum((1, 2)) * 0.25**2, truth["myo_area"], rtol=0.005)
    for frame, area in enumerate(areas):
        assert area == pytest.approx(truth["lv_area"][frame], rel=0.003)
        rows, columns = np.nonzero(np.isin(labels[frame], (1, 2)))
        assert (columns.mean() + 0.5 - 320) * 0.25 == pytest.approx(truth["epi_x"][frame], abs=0.05)
        assert (rows.mean() + 0.5) * 0.25 == pytest.approx(truth["epi_y"][frame], abs=0.05)
        y, x = np.nonzero(labels[frame] == 1)
        _, vectors = np.linalg.eigh(np.cov(x, y))
        orientation = np.rad2deg(np.arctan(-vectors[0, 1] / vectors[1, 1]))
        assert orientation == pytest.approx(truth["orientation"][frame], abs=0.1)
    volume = areas**2 / truth["lv_length"]
    assert 1 - volume[1] / volume[0] == pytest.approx(fraction, abs=0.01)


@pytest.mark.slow
def test_areas_of_pixels_converge_to_the_ground_truth() -> None:
    error = {spacing: [] for spacing in (4.0, 2.0, 1.0, 0.5)}
    for seed in range(12):
        phantom = CardiacPhantom(seed)
        area = phantom.ground_truth(np.zeros(1))["lv_area"][0]
        for spacing, errors in error.items():
            size = int(160 / spacing)
            labels = phantom.labels(np.zeros(1), (size, size), spacing)
            errors.append(abs((labels == 1).sum() * spacing**2 / area - 1))
    coarse, *_, fine = (np.mean(errors) for errors in error.values())
    assert coarse < 0.02
    assert fine < 0.15 * coarse


def test_an_image_may_have_any_shape() -> None:
    phantom = CardiacPhantom(5)
    square = phantom.labels(np.zeros(1), (128, 128), 1.25)[0]
    tall = phantom.labels(np.zeros(1), (150, 96), 1.25)[0]
    np.testing.assert_array_equal(tall[:128], square[:, 16:-16])


def test_one_seed_gives_one_heart() -> None:
    phases = np.array([0, 0.4])
    again = CardiacPhantom(8, "2CH").labels(phases)
    np.testing.assert_array_equal(CardiacPhantom(8, "2CH").labels(phases), again)
    assert (CardiacPhantom(9, "2CH").labels(phases) != again).any()
    assert again.dtype == np.uint8
    assert again.shape == (2, 128, 128)
