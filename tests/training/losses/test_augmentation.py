"""Random changes of training images: what they keep, what they change, and that processes draw alike."""

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
    BRIGHTER,
    GAIN,
    GAMMA,
    NOISE,
    SCALE,
    SHIFT,
    TURN,
    WEAKENED,
    cropped,
    drop_modalities,
    moved,
    random_intensity,
    simulate_low_quality,
)

SIZE = 40


class Fixed(BatchRandom):
    """Uniform draws that are all the same, but for some columns."""

    def __init__(self, value: float = 0.5, **columns: float) -> None:
        super().__init__(0)
        self.value, self.columns = value, {int(name[1:]): column for name, column in columns.items()}

    def rand(self, *shape: int) -> Tensor:
        drawn = torch.full(shape, self.value)
        for column, value in self.columns.items():
            drawn[:, column] = value
        return drawn


def label_maps(count: int = 8, raters: int = 2) -> Tensor:
    """(B, R, H, W) uint8: a rectangle of label 1 in which one of label 2 lies, off the middle, other for each rater."""
    maps = torch.zeros(count, raters, SIZE, SIZE, dtype=torch.uint8)
    for index in range(count):
        for rater in range(raters):
            maps[index, rater, 8 : 24 + rater, 12 : 22 + index] = 1
            maps[index, rater, 12:18, 15 : 20 + rater] = 2
    return maps


def test_image_and_labels_move_together() -> None:
    labels = label_maps()
    image, masks = moved(labels.float() / 2, labels, BatchRandom(3))
    assert masks.dtype == torch.uint8 and image.dtype == torch.float32
    # Where a image is constant around, bilinear and nearest sampling read the same; else the nearest of four
    # pixels weighs most, a quarter or more.
    apart = (image - masks.float() / 2).abs()
    assert (apart > 1e-5).float().mean() < 0.1
    assert apart.max() <= 0.75 + 1e-5
    assert not torch.equal(masks, labels)


def test_labels_stay_labels() -> None:
    labels = label_maps() * 3  # 0, 3 and 6, between which there are others
    _, masks = moved(labels.float() / 6, labels, BatchRandom(0))
    assert masks.unique().tolist() == [0, 3, 6]


def test_the_middle_of_all_draws_changes_nothing() -> None:
    labels = label_maps()
    image = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    same, masks = moved(image, labels, Fixed(0.5))
    torch.testing.assert_close(same, image, atol=1e-4, rtol=0)
    assert torch.equal(masks, labels)


def test_half_of_the_images_are_mirrored() -> None:
    labels = label_maps()
    image = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    mirrored, masks = moved(image, labels, Fixed(0.5, _2=0.2))
    torch.testing.assert_close(mirrored, image.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(masks, labels.flip(-1))


def test_shifts_are_a_part_of_the_field_of_view() -> None:
    point = torch.zeros(1, 1, 50, 50)
    point[..., 20, 30] = 1
    by = SHIFT * 50 / 2  # 2 pixels: half of the largest shift
    left_of, _ = moved(point, point, Fixed(0.5, _3=0.25))
    assert left_of[0, 0].flatten().argmax() == 20 * 50 + 30 + by
    above, _ = moved(point, point, Fixed(0.5, _4=0.25))
    assert above[0, 0].flatten().argmax() == (20 + by) * 50 + 30


def test_turns_and_scales_are_those_of_scipy() -> None:
    place = torch.arange(SIZE) - (SIZE - 1) / 2
    smooth = torch.exp(-((place[:, None] - 4) ** 2 / 30) - (place + 3) ** 2 / 20)[None, None]
    turned, _ = moved(smooth, smooth, Fixed(0.5, _0=0.9))
    expected = ndimage.rotate(smooth[0, 0].numpy(), 0.8 * math.degrees(TURN), reshape=False, order=1)
    np.testing.assert_allclose(turned[0, 0], expected, atol=1e-3)  # the border
    mirrored, _ = moved(smooth, smooth, Fixed(0.5, _0=0.9, _2=0.2))
    torch.testing.assert_close(mirrored, turned.flip(-1), atol=1e-4, rtol=0)
    scaled, _ = moved(smooth, smooth, Fixed(0.5, _1=1.0))
    middle = (SIZE - 1) / 2 * -SCALE
    expected = ndimage.affine_transform(smooth[0, 0].numpy(), [1 + SCALE] * 2, [middle] * 2, order=1)
    np.testing.assert_allclose(scaled[0, 0], expected, atol=1e-3)


def test_contrast_changes_within_the_range_and_zero_stays() -> None:
    image = torch.rand(16, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image[:, :, :10] = 0
    image[:, :, 10] = 1
    changed = random_intensity(image, BatchRandom(1))
    assert not changed[:, :, :10].any()
    assert changed.min() >= 0 and changed.max() <= 1
    gains = (changed[:, :, 20:] / image[:, :, 20:]).flatten(2).median(dim=2).values
    # Of the middle intensity, 1/2, e^±GAIN · (1/2)^(e^∓GAMMA − 1), and a little more for the noise and other medians.
    low, high = (math.exp(end * GAIN) * 0.5 ** (math.exp(-end * GAMMA) - 1) for end in (-1, 1))
    assert gains.std() > 0.05 and 0.9 * low < gains.min() < 1 < gains.max() < 1.1 * high  # each image's and channel's
    # Middling draws leave gain and gamma alone, and the noise has its standard deviation to itself.
    middle = random_intensity(image, Fixed(0.5))
    torch.testing.assert_close(middle, image, atol=1e-5, rtol=0)


def test_noise_has_its_largest_deviation() -> None:
    class OnlyNoise(BatchRandom):
        def rand(self, *shape: int) -> Tensor:
            return torch.tensor([0.5, 0.5, 1.0]).expand(shape)

    image = torch.full((4, 2, 100, 100), 0.5)
    apart = random_intensity(image, OnlyNoise(0)) - image
    assert apart.std().item() == pytest.approx(NOISE, rel=0.02)
    assert abs(apart.mean().item()) < 1e-3


def test_modalities_are_left_out_of_a_part_of_the_images() -> None:
    count, channels, probability = 4000, 4, 0.6
    image = torch.rand(count, channels, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    left = drop_modalities(image, probability, BatchRandom(2))
    there = left.flatten(2).abs().amax(dim=2) > 0
    assert torch.equal(left[there], image[there])
    assert not left[~there].any()
    kept = there.sum(dim=1)
    shares = torch.bincount(kept, minlength=channels + 1) / count
    assert shares[0] == 0
    error = 5 * (0.25 / count) ** 0.5  # five standard errors
    for number in range(1, channels):
        assert shares[number].item() == pytest.approx(probability / channels, abs=error)
    assert shares[channels].item() == pytest.approx(1 - probability + probability / channels, abs=error)
    alone = there[kept == 1].float().mean(dim=0)  # whichever stays, it is each as often
    assert alone.tolist() == pytest.approx([1 / channels] * channels, abs=5 * (0.25 / (kept == 1).sum().item()) ** 0.5)


def test_nothing_is_left_out_without_a_probability() -> None:
    image = torch.rand(50, 4, 2, 2)
    assert torch.equal(drop_modalities(image, 0.0, BatchRandom(2)), image)
    single = torch.rand(50, 1, 2, 2)
    assert torch.equal(drop_modalities(single, 1.0, BatchRandom(2)), single)


def moves(image: Tensor, random: BatchRandom) -> Tensor:
    return torch.cat(moved(image, (image * 3).byte(), random), dim=1)


CHANGES: list[Callable[[Tensor, BatchRandom], Tensor]] = [
    moves,
    random_intensity,
    lambda x, r: drop_modalities(x, 0.5, r),
]


@pytest.mark.parametrize("change", CHANGES)
def test_processes_together_do_what_one_does(change: Callable[[Tensor, BatchRandom], Tensor]) -> None:
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


def test_a_poor_scanner_weakens_the_contrast_about_the_mean_and_changes_the_gain() -> None:
    image = disc()
    level, inside = image[image > 0].mean(), image > 0
    unchanged = simulate_low_quality(image, Fixed(0.0, _1=0.5))
    torch.testing.assert_close(unchanged, image)
    weak = simulate_low_quality(image, Fixed(0.0, _0=1.0, _1=0.5))[inside]
    torch.testing.assert_close(weak, (level + (1 - WEAKENED) * (image - level))[inside])
    bright = simulate_low_quality(image, Fixed(0.0, _1=1.0))
    torch.testing.assert_close(bright, image * math.exp(BRIGHTER))


def test_poor_scans_of_images_differ_and_nothing_comes_outside_the_head() -> None:
    images = disc().repeat(6, 1, 1, 1)
    poor = simulate_low_quality(images, BatchRandom(0))
    assert (poor[images == 0] == 0).all() and poor.min() >= 0 and poor.max() <= 1
    assert poor.flatten(1).std(dim=0).max() > 0.02
    for one in poor:
        assert np.corrcoef(one.flatten(), images[0].flatten())[0, 1] > 0.8
    assert (simulate_low_quality(torch.zeros(1, 1, SIZE, SIZE), BatchRandom(0)) == 0).all()


def test_cubes_are_cut_from_everywhere_and_short_axes_stay_whole() -> None:
    volumes = torch.arange(6 * 9 * 4).view(1, 1, 6, 9, 4).expand(400, -1, -1, -1, -1)
    cubes = cropped(volumes, 5, BatchRandom(0))
    assert cubes.shape == (400, 1, 5, 5, 4)
    corners = set(cubes[:, 0, 0, 0, 0].tolist())
    assert corners == {36 * x + 4 * y for x in range(2) for y in range(5)}
    for cube in cubes[:20, 0]:
        x, y = divmod(int(cube[0, 0, 0]), 36)
        assert torch.equal(cube, volumes[0, 0, x : x + 5, y // 4 : y // 4 + 5])
