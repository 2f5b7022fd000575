"""The one rule for colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest

from meddiffusers.datasets.public.images import to_channels

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RED = np.stack([GREY, GREY * 0, GREY * 0], axis=-1)


@pytest.mark.parametrize(
    "image",
    [
        PIL.Image.fromarray(GREY),
        PIL.Image.fromarray(GREY).convert("RGB"),
        PIL.Image.fromarray(GREY).convert("RGBA"),
        PIL.Image.fromarray(GREY).convert("LA"),
        PIL.Image.fromarray(GREY).convert("P"),
        GREY,
        np.stack([GREY] * 3, axis=-1),
        GREY[..., None],
    ],
)
def test_grey_values_are_kept_however_they_are_stored(image: Any) -> None:
    np.testing.assert_array_equal(to_channels(image, 1), GREY)


def test_sixteen_bits_are_kept() -> None:
    deep = GREY.astype(np.uint16) * 300
    np.testing.assert_array_equal(to_channels(PIL.Image.fromarray(deep), 1), deep)


def test_colours_and_transparency_are_no_grey_values() -> None:
    with pytest.raises(ValueError, match=r"an image with colours; expected grey values\. Convert it"):
        to_channels(PIL.Image.fromarray(RED), 1)
    half = PIL.Image.fromarray(np.concatenate([np.stack([GREY] * 3, axis=-1), GREY[..., None]], axis=-1), "RGBA")
    with pytest.raises(ValueError, match=r"a transparent image; expected grey values\. Flatten it"):
        to_channels(half, 1)


def test_three_channels_are_colours() -> None:
    np.testing.assert_array_equal(to_channels(PIL.Image.fromarray(RED), 3), RED)
    np.testing.assert_array_equal(to_channels(PIL.Image.fromarray(GREY), 3), np.stack([GREY] * 3, axis=-1))


def test_channels_first_and_other_numbers_stay_as_they_are() -> None:
    assert to_channels(np.zeros((1, 3, 4)), 1).shape == (1, 3, 4)
    assert to_channels(np.zeros((5, 3, 4)), 5).shape == (5, 3, 4)
