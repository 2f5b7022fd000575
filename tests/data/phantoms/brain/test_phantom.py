from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.scanner import FULL_SCALE
from meddiffusers.data.phantoms.brain.smooth_field import points_of
from meddiffusers.data.regions import CEREBROSPINAL_FLUID, MIRRORED, REGIONS, VENTRICLES, region_volumes
from meddiffusers.data.subject import Subject

# ml on one side, over adults of all ages and sizes: wider than those of volumetric studies by MRI.
ADULT = {
    2: (170, 290), 3: (220, 400), 8: (40, 80), 7: (7, 18), 10: (3.5, 9.0), 11: (2.0, 5.0), 12: (2.6, 7.0),
    13: (0.6, 2.5), 17: (2.0, 5.6), 18: (0.8, 2.8), 26: (0.2, 0.9), 28: (1.7, 5.0), 4: (2.0, 28.0), 5: (0.1, 2.0),
}  # fmt: skip
MIDLINE = {14: (0.3, 6.0), 15: (0.8, 6.0), 16: (13, 32), 24: (90, 230)}


@pytest.fixture(scope="module")
def healthy() -> Subject:
    return BrainPhantom(21, age=60).volume(2.0, MODALITIES)


def brain_and_ventricles(subject: Subject) -> tuple[float, float]:
    ventricles = sum(subject.volumes[label] for label in VENTRICLES)
    return (sum(subject.volumes.values()) - ventricles - subject.volumes[CEREBROSPINAL_FLUID]) / 1000, ventricles / 1000


@pytest.mark.parametrize(("brain", "ventricles"), [(1150.0, 12.0), (1300.0, 30.0), (1500.0, 58.0)])
@pytest.mark.slow
def test_target_volumes_are_reached(brain: float, ventricles: float) -> None:
    phantom = BrainPhantom(5, brain_volume_ml=brain, ventricular_volume_ml=ventricles)
    assert brain_and_ventricles(phantom.volume(2.0, ())) == pytest.approx((brain, ventricles), rel=0.02)


@pytest.mark.slow
def test_one_and_two_millimetres_hold_the_same_regions() -> None:
    phantom = BrainPhantom(2, ventricular_volume_ml=40)
    fine, coarse = (phantom.volume(spacing, ()).volumes for spacing in (1.0, 2.0))
    assert fine.keys() == coarse.keys() == set(REGIONS) - {48, 72, 73, 74}
    for label, amount in fine.items():
        assert coarse[label] == pytest.approx(amount, rel=0.03), REGIONS[label]


@pytest.mark.slow
def test_random_subjects_are_adults_with_their_volumes() -> None:
    for seed in range(40, 48):
        phantom = BrainPhantom(seed)
        subject = phantom.volume(2.5, ())
        brain, ventricles = brain_and_ventricles(subject)
        assert 1100 * 0.98 < brain < 1600 * 1.02
        assert 8 * 0.98 < ventricles < 60 * 1.02
        targets = phantom.demographics.brain_volume_ml, phantom.demographics.ventricular_volume_ml
        assert (brain, ventricles) == pytest.approx(targets, rel=0.01)
        for label, (low, high) in (ADULT | MIDLINE).items():
            left, right = subject.volumes[label] / 1000, subject.volumes[MIRRORED[label]] / 1000
            assert low < left < high, REGIONS[label]
            assert low < right < high, REGIONS[MIRRORED[label]]
            assert abs(left - right) < 0.35 * max(left, right), REGIONS[label]


@pytest.mark.slow
def test_labels_lie_on_their_side(healthy: Subject) -> None:
    labels = healthy.regions.array[0]
    assert set(np.unique(labels).tolist()) == {0, *healthy.volumes}
    x = healthy.regions.affine[0, 3] + 2 * np.arange(labels.shape[0])
    for left in ADULT:
        assert np.quantile(x[np.nonzero(labels == left)[0]], 0.95) < 0, REGIONS[left]
        assert np.quantile(x[np.nonzero(labels == MIRRORED[left])[0]], 0.05) > 0, REGIONS[MIRRORED[left]]


def test_labels_count_what_the_fractions_sum_to(healthy: Subject) -> None:
    counted = region_volumes(healthy.regions.array[0], 8.0)
    for label in (2, 3, 8, 10, 11, 12, 16, 43):
        assert counted[label] == pytest.approx(healthy.volumes[label], rel=0.2), REGIONS[label]


@pytest.mark.slow
def test_everything_follows_from_the_seed(healthy: Subject) -> None:
    again = BrainPhantom(21, age=60).volume(2.0, MODALITIES)
    for name, scan in healthy.images.items():
        np.testing.assert_array_equal(scan.array, again.images[name].array)
    np.testing.assert_array_equal(healthy.regions.array, again.regions.array)
    assert healthy.record == again.record
    one, other = (BrainPhantom(seed, age=60).slice(modalities=("t1",)) for seed in (21, 22))
    assert (one.images["t1"].array != other.images["t1"].array).mean() > 0.2


@pytest.mark.slow
def test_a_slice_alone_has_the_labels_of_the_volume() -> None:
    phantom = BrainPhantom(8, lesion="tumour", difficulty=0.3)
    alone = phantom.slice(12.0, 104)
    x, y = (alone.regions.affine[axis, 3] + 2 * np.arange(104) for axis in (0, 1))
    thick = phantom.on_grid((x, y, np.array([10.0, 12.0, 14.0])), (2.0, 2.0, 1.0), ())
    np.testing.assert_array_equal(alone.regions.array[..., 0], thick.regions.array[..., 1])
    np.testing.assert_array_equal(alone.lesions.array[..., 0], thick.lesions.array[..., 1])


def test_contrasts_are_those_of_the_modalities(healthy: Subject) -> None:
    labels = healthy.regions.array[0]

    def median(modality: str, *ids: int) -> float:
        return float(np.median(healthy.images[modality].channel(modality)[np.isin(labels, ids)]))

    for modality, order in {"t1": "VGW", "t2": "WGV", "flair": "VWG", "pd": "WGV"}.items():
        values = {"V": median(modality, 4, 43), "G": median(modality, 3, 42), "W": median(modality, 2, 41)}
        assert "".join(sorted(values, key=values.__getitem__)) == order, modality
    assert all(scan.array.dtype == np.int16 for scan in healthy.images.values())
    assert not any(scan.array[0][labels == 0].any() for scan in healthy.images.values())


@pytest.mark.slow
def test_a_lesion_changes_nothing_else() -> None:
    plain, ill = BrainPhantom(9), BrainPhantom(9, lesion="tumour", difficulty=0.0)
    assert plain.demographics == ill.demographics
    assert (plain.record["lesion"], ill.record["lesion"]) == ("none", "tumour")
    before, after = plain.volume(3.0, ("t1ce",)), ill.volume(3.0, ("t1ce",))
    assert before.lesions.array.max() == 0
    assert before.raters is None
    tumour = after.lesions.array[0] > 0
    assert tumour.any()
    grid = points_of(tuple(np.arange(size) * 3.0 for size in tumour.shape))
    centre = grid[:, tumour].mean(axis=1)
    far = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0)) > 75
    np.testing.assert_array_equal(before.regions.array[0][far], after.regions.array[0][far])
    np.testing.assert_array_equal(before.images["t1ce"].array[0][far], after.images["t1ce"].array[0][far])


@pytest.mark.slow
def test_an_enhancing_rim_is_bright_after_the_agent_alone() -> None:
    phantom = BrainPhantom(4, lesion="tumour", difficulty=0.0)
    subject = phantom.volume(2.0, ("t1", "t1ce"))
    rim, white = (
        subject.lesions.array[0] == 4,
        np.isin(subject.regions.array[0], (2, 41)) & (subject.lesions.array[0] == 0),
    )
    ratio = {
        name: np.median(scan.array[0][rim]) / np.median(scan.array[0][white]) for name, scan in subject.images.items()
    }
    assert ratio["t1ce"] > 1.05 > 0.95 > ratio["t1"]


@pytest.mark.slow
def test_the_heights_of_a_lesion_meet_it() -> None:
    phantom = BrainPhantom(6, lesion="cavity", difficulty=0.2)
    heights = phantom.lesion_heights()
    middle = phantom.slice(float(heights[len(heights) // 2]), 96, ())
    assert middle.lesions.array.any()
    assert middle.raters.array.any()
    assert not phantom.slice(float(heights.max() + 15), 96, ()).lesions.array.any()
    assert BrainPhantom(6).lesion_heights().size == 0


@pytest.mark.slow
def test_air_holds_rician_noise_and_the_skull_a_signal() -> None:
    phantom = BrainPhantom(3)
    subject = phantom.volume(3.0, ("t1",), skull=True)
    image = subject.images["t1"].array[0] / FULL_SCALE
    acquisition = phantom._acquisitions["t1"]
    sigma = acquisition.noise / np.sqrt(27) * acquisition.gain
    corner = image[:6, :6]
    assert corner.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.1)  # Rayleigh's mean
    assert (image[subject.regions.array[0] == 0] > 10 * sigma).mean() > 0.1


@pytest.mark.slow
def test_thick_slices_average_thin_ones() -> None:
    phantom = BrainPhantom(12)
    x = y = np.arange(-80.0, 80.0, 2.0)
    thick = phantom._anatomy((x, y - 18, np.array([12.0])), (2.0, 2.0, 6.0))
    thin = [phantom._anatomy((x, y - 18, np.array([height])), (2.0, 2.0, 1.0)) for height in np.arange(9.5, 15)]
    mean = np.mean([layer.to_grid(layer.fractions) for layer in thin], axis=0)
    difference = np.abs(thick.to_grid(thick.fractions) - mean).sum(axis=0)
    assert difference.mean() < 0.05
    assert np.abs(thin[0].to_grid(thin[0].fractions) - mean).sum(axis=0).mean() > 2 * difference.mean()


@pytest.mark.slow
def test_the_warp_has_no_folds() -> None:
    for seed in range(30, 36):
        grid = tuple(np.arange(low, high, 4.0) for low, high in ((-64, 65), (-88, 60), (-44, 72)))
        places = BrainPhantom(seed)._warp(grid, points_of(grid))
        slopes = np.stack([np.stack(np.gradient(part, 4.0)) for part in places])
        assert np.linalg.det(slopes.transpose(2, 3, 4, 0, 1)).min() > 0.1


@pytest.mark.slow
def test_unknown_modalities_and_lesions_are_refused() -> None:
    phantom = BrainPhantom(1)
    with pytest.raises(ValueError, match="no modality dwi; it has t1, t1ce, t2, flair, pd"):
        phantom.slice(0.0, 64, ("t1", "dwi"))
    with pytest.raises(ValueError, match="no lesions of the kind 'abscess'"):
        BrainPhantom(1, lesion="abscess")
    with pytest.raises(ValueError, match="difficulty=2 is not between 0 and 1"):
        BrainPhantom(1, lesion="tumour", difficulty=2)


def test_values_that_no_phantom_has_are_refused() -> None:
    with pytest.raises(ValueError, match="age=12; the phantom's range is 18 to 90"):
        BrainPhantom(1, age=12)
    with pytest.raises(ValueError, match="sex='male'; expected one of F, M"):
        BrainPhantom(1, sex="male")
    with pytest.raises(ValueError, match="brain_volume_ml=2000; the phantom's range is 1100 to 1600"):
        BrainPhantom(1, brain_volume_ml=2000)
    with pytest.raises(ValueError, match="ventricular_volume_ml=5; the phantom's range is 8 to 60"):
        BrainPhantom(1, ventricular_volume_ml=5)
    with pytest.raises(ValueError, match=r"ventricles of 8 ml in a brain of 1600 ml\. Choose another"):
        BrainPhantom(0, brain_volume_ml=1600, ventricular_volume_ml=8)


def test_the_brain_does_not_extend_into_the_neck() -> None:
    subject = BrainPhantom(3).on_grid(
        (np.arange(-20.0, 21.0, 2.0), np.arange(-70.0, -10.0, 2.0), np.arange(-110.0, -60.0, 2.0)), (2.0,) * 3, ("t1",)
    )
    assert subject.regions.array.any()
    assert not subject.regions.array[..., :8].any()
    assert not subject.images["t1"].array[..., :8].any()


def test_grids_without_voxels_are_refused() -> None:
    phantom = BrainPhantom(1)
    for spacing in (0, (2.0, -1.0, 2.0), (2.0, 2.0, float("nan"))):
        with pytest.raises(ValueError, match="expected mm above 0 along each axis"):
            phantom.volume(spacing)
    with pytest.raises(ValueError, match=r"size=0, thickness=1\.0; expected at least one pixel"):
        phantom.slice(size=0)
    with pytest.raises(ValueError, match="Got a grid of 3 × 0 × 1 voxels"):
        phantom.on_grid((np.arange(3.0), np.zeros(0), np.zeros(1)), (1.0,) * 3, ("t1",))
