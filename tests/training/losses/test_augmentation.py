"""Random augmentation of training images: what it keeps and changes, and that processes sample alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from meddiffusers.training import BatchRandom
from meddiffusers.training.losses.augmentation import (
    MAX_CONTRAST_LOSS,
    MAX_LOG_BRIGHTNESS,
    MAX_LOG_GAIN,
    MAX_LOG_GAMMA,
    MAX_NOISE,
    MAX_ROTATION,
    MAX_SCALING,
    MAX_SHIFT,
    drop_modalities,
    random_affine,
    random_crop,
    random_intensity,
    simulate_low_quality,
)

SIZE = 40


class Fixed(BatchRandom):
    """Uniform numbers that are all the same, except in some columns."""

    def __init__(self, value: float = 0.5, **columns: float) -> None:
        super().__init__(0)
        self.value, self.columns = value, {int(name[1:]): column for name, column in columns.items()}

    def rand(self, *shape: int) -> Tensor:
        uniform = torch.full(shape, self.value)
        for column, value in self.columns.items():
            uniform[:, column] = value
        return uniform


def label_maps(count: int = 8, raters: int = 2) -> Tensor:
    """(B, R, H, W) uint8: a rectangle of label 1 around an off-centre one of label 2, different for each rater."""
    maps = torch.zeros(count, raters, SIZE, SIZE, dtype=torch.uint8)
    for index in range(count):
        for rater in range(raters):
            maps[index, rater, 8 : 24 + rater, 12 : 22 + index] = 1
            maps[index, rater, 12:18, 15 : 20 + rater] = 2
    return maps


def test_image_and_labels_are_resampled_together() -> None:
    labels = label_maps()
    image, masks = random_affine(labels.float() / 2, labels, BatchRandom(3))
    assert masks.dtype == torch.uint8 and image.dtype == torch.float32
    # Where the image is constant, bilinear and nearest sampling agree; elsewhere the nearest of four pixels has the
    # largest weight, a quarter or more.
    difference = (image - masks.float() / 2).abs()
    assert (difference > 1e-5).float().mean() < 0.1
    assert difference.max() <= 0.75 + 1e-5
    assert not torch.equal(masks, labels)


def test_label_values_are_kept() -> None:
    labels = label_maps() * 3  # 0, 3 and 6, between which there are others
    _, masks = random_affine(labels.float() / 6, labels, BatchRandom(0))
    assert masks.unique().tolist() == [0, 3, 6]


def test_the_middle_of_all_ranges_changes_nothing() -> None:
    labels = label_maps()
    image = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    same, masks = random_affine(image, labels, Fixed(0.5))
    torch.testing.assert_close(same, image, atol=1e-4, rtol=0)
    assert torch.equal(masks, labels)


def test_half_of_the_images_are_flipped() -> None:
    labels = label_maps()
    image = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    flipped, masks = random_affine(image, labels, Fixed(0.5, _2=0.2))
    torch.testing.assert_close(flipped, image.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(masks, labels.flip(-1))


def test_shifts_are_a_fraction_of_the_field_of_view() -> None:
    point = torch.zeros(1, 1, 50, 50)
    point[..., 20, 30] = 1
    by = MAX_SHIFT * 50 / 2  # 2 pixels: half of the largest shift
    left_of, _ = random_affine(point, point, Fixed(0.5, _3=0.25))
    assert left_of[0, 0].flatten().argmax() == 20 * 50 + 30 + by
    above, _ = random_affine(point, point, Fixed(0.5, _4=0.25))
    assert above[0, 0].flatten().argmax() == (20 + by) * 50 + 30


def test_rotation_and_scaling_are_those_of_scipy() -> None:
    place = torch.arange(SIZE) - (SIZE - 1) / 2
    smooth = torch.exp(-((place[:, None] - 4) ** 2 / 30) - (place + 3) ** 2 / 20)[None, None]
    rotated, _ = random_affine(smooth, smooth, Fixed(0.5, _0=0.9))
    expected = ndimage.rotate(smooth[0, 0].numpy(), 0.8 * math.degrees(MAX_ROTATION), reshape=False, order=1)
    np.testing.assert_allclose(rotated[0, 0], expected, atol=1e-3)  # the border
    flipped, _ = random_affine(smooth, smooth, Fixed(0.5, _0=0.9, _2=0.2))
    torch.testing.assert_close(flipped, rotated.flip(-1), atol=1e-4, rtol=0)
    scaled, _ = random_affine(smooth, smooth, Fixed(0.5, _1=1.0))
    middle = (SIZE - 1) / 2 * -MAX_SCALING
    expected = ndimage.affine_transform(smooth[0, 0].numpy(), [1 + MAX_SCALING] * 2, [middle] * 2, order=1)
    np.testing.assert_allclose(scaled[0, 0], expected, atol=1e-3)


def test_intensities_change_within_the_range_and_zero_stays() -> None:
    image = torch.rand(16, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image[:, :, :10] = 0
    image[:, :, 10] = 1
    changed = random_intensity(image, BatchRandom(1))
    assert not changed[:, :, :10].any()
    assert changed.min() >= 0 and changed.max() <= 1
    gains = (changed[:, :, 20:] / image[:, :, 20:]).flatten(2).median(dim=2).values
    # At the median intensity, 1/2: e^±MAX_LOG_GAIN · (1/2)^(e^∓MAX_LOG_GAMMA − 1), with a margin for noise and medians.
    low, high = (math.exp(end * MAX_LOG_GAIN) * 0.5 ** (math.exp(-end * MAX_LOG_GAMMA) - 1) for end in (-1, 1))
    assert gains.std() > 0.05 and 0.9 * low < gains.min() < 1 < gains.max() < 1.1 * high  # each image's and channel's
    # In the middle of the ranges, gain, gamma and noise change nothing.
    middle = random_intensity(image, Fixed(0.5))
    torch.testing.assert_close(middle, image, atol=1e-5, rtol=0)


def test_noise_has_its_largest_standard_deviation() -> None:
    class OnlyNoise(BatchRandom):
        def rand(self, *shape: int) -> Tensor:
            return torch.tensor([0.5, 0.5, 1.0]).expand(shape)

    image = torch.full((4, 2, 100, 100), 0.5)
    difference = random_intensity(image, OnlyNoise(0)) - image
    assert difference.std().item() == pytest.approx(MAX_NOISE, rel=0.02)
    assert abs(difference.mean().item()) < 1e-3


def test_modalities_are_dropped_from_a_fraction_of_the_images() -> None:
    count, channels, probability = 4000, 4, 0.6
    image = torch.rand(count, channels, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    dropped = drop_modalities(image, probability, BatchRandom(2))
    there = dropped.flatten(2).abs().amax(dim=2) > 0
    assert torch.equal(dropped[there], image[there])
    assert not dropped[~there].any()
    kept = there.sum(dim=1)
    shares = torch.bincount(kept, minlength=channels + 1) / count
    assert shares[0] == 0
    error = 5 * (0.25 / count) ** 0.5  # five standard errors
    for number in range(1, channels):
        assert shares[number].item() == pytest.approx(probability / channels, abs=error)
    assert shares[channels].item() == pytest.approx(1 - probability + probability / channels, abs=error)
    alone = there[kept == 1].float().mean(dim=0)  # each modality as often
    assert alone.tolist() == pytest.approx([1 / channels] * channels, abs=5 * (0.25 / (kept == 1).sum().item()) ** 0.5)


def test_nothing_is_dropped_with_probability_0() -> None:
    image = torch.rand(50, 4, 2, 2)
    assert torch.equal(drop_modalities(image, 0.0, BatchRandom(2)), image)
    single = torch.rand(50, 1, 2, 2)
    assert torch.equal(drop_modalities(single, 1.0, BatchRandom(2)), single)


def affine(image: Tensor, random: BatchRandom) -> Tensor:
    return torch.cat(random_affine(image, (image * 3).byte(), random), dim=1)


CHANGES: list[Callable[[Tensor, BatchRandom], Tensor]] = [
    affine,
    random_intensity,
    lambda x, r: drop_modalities(x, 0.5, r),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_result_does_not_depend_on_the_number_of_processes(change: Callable[[Tensor, BatchRandom], Tensor]) -> None:
    image = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = change(image, BatchRandom(9))
    parts = [change(image[4 * rank : 4 * rank + 4], BatchRandom(9, rank=rank, world_size=3)) for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(change(image, BatchRandom(9)), whole)
    assert not torch.equal(change(image, BatchRandom(10)), whole)


def disc() -> Tensor:
    """(1, 1, H, W): 0.6 within a circle, 0.3 around it, 0 outside the head."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    radius = (x**2 + y**2).sqrt()
    return (0.3 * (radius < 0.9) + 0.3 * (radius < 0.4))[None, None]


def test_low_quality_has_less_contrast_about_the_mean_and_another_brightness() -> None:
    image = disc()
    mean, inside = image[image > 0].mean(), image > 0
    unchanged = simulate_low_quality(image, Fixed(0.0, _1=0.5))
    torch.testing.assert_close(unchanged, image)
    less = simulate_low_quality(image, Fixed(0.0, _0=1.0, _1=0.5))[inside]
    torch.testing.assert_close(less, (mean + (1 - MAX_CONTRAST_LOSS) * (image - mean))[inside])
    bright = simulate_low_quality(image, Fixed(0.0, _1=1.0))
    torch.testing.assert_close(bright, image * math.exp(MAX_LOG_BRIGHTNESS))


def test_low_quality_images_differ_and_the_background_stays_0() -> None:
    images = disc().repeat(6, 1, 1, 1)
    poor = simulate_low_quality(images, BatchRandom(0))
    assert (poor[images == 0] == 0).all() and poor.min() >= 0 and poor.max() <= 1
    assert poor.flatten(1).std(dim=0).max() > 0.02
    for one in poor:
        assert np.corrcoef(one.flatten(), images[0].flatten())[0, 1] > 0.8
    assert (simulate_low_quality(torch.zeros(1, 1, SIZE, SIZE), BatchRandom(0)) == 0).all()


def test_crops_come_from_everywhere_and_short_axes_stay_whole() -> None:
    volumes = torch.arange(6 * 9 * 4).view(1, 1, 6, 9, 4).expand(400, -1, -1, -1, -1)
    crops = random_crop(volumes, 5, BatchRandom(0))
    assert crops.shape == (400, 1, 5, 5, 4)
    corners = set(crops[:, 0, 0, 0, 0].tolist())
    assert corners == {36 * x + 4 * y for x in range(2) for y in range(5)}
    for crop in crops[:20, 0]:
        x, y = divmod(int(crop[0, 0, 0]), 36)
        assert torch.equal(crop, volumes[0, 0, x : x + 5, y // 4 : y // 4 + 5])
