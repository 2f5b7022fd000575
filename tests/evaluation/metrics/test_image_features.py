from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0

CATS = range(281, 286)  # of ImageNet's classes: tabby, tiger, Persian, Siamese, Egyptian cat
ESPRESSO = 967


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0:
    return EfficientNetLite0(batch_size=4)


def grey(name: str) -> np.ndarray:
    """The middle square of a photograph that comes with scikit-image, in [0, 1]."""
    image = getattr(skimage.data, name)().mean(axis=2) / 255
    side = min(image.shape)
    top, left = ((length - side) // 2 for length in image.shape)
    return image[top : top + side, left : left + side]


def random_images(count: int = 6, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).random((count, size, size))


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", [ESPRESSO])])
def test_the_network_knows_what_is_in_a_photograph(
    extractor: EfficientNetLite0, name: str, classes: range | list[int]
) -> None:
    features = extractor(grey(name)[None])
    assert features.shape == (1, 1280)
    assert int(extractor.network._fc(features).argmax()) in classes


@pytest.mark.slow
def test_features_do_not_depend_on_batches_order_layout_or_type(extractor: EfficientNetLite0) -> None:
    images = random_images()
    features = extractor(images)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    same = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    same(extractor(torch.from_numpy(images[::-1].copy())[:, None]).flip(0), features)
    same(extractor(images[2:3]), features[2:3])
    assert torch.equal(extractor(images), features)


@pytest.mark.slow
def test_only_the_place_within_the_declared_range_counts(extractor: EfficientNetLite0) -> None:
    images = np.round(255 * random_images())
    features = extractor(images / 255)
    torch.testing.assert_close(EfficientNetLite0((0, 255))(images.astype(np.uint8)), features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(EfficientNetLite0((-1, 1))(images / 127.5 - 1), features, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_module_that_holds_it_cannot_set_it_to_training(extractor: EfficientNetLite0) -> None:
    features = extractor(random_images())
    nn.Sequential(extractor).train()
    assert not any(module.training for module in extractor.modules())
    assert torch.equal(extractor(random_images()), features)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((2, 8, 8), 1.5), r"intensities from 1.5 to 1.5; expected them within \(0, 1\)"),
        (np.full((2, 8, 8), -0.1), r"from -0.1 to -0.1"),
        (np.full((2, 8, 8), np.nan), "NaN or infinite"),
        (np.zeros((8, 8)), r"shape \(8, 8\); expected \(B, H, W\)"),
        (np.zeros((2, 3, 8, 8)), r"shape \(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8)), r"shape \(0, 1, 8, 8\)"),
    ],
)
def test_other_images_are_refused(extractor: EfficientNetLite0, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extractor(images)


def test_a_range_must_rise() -> None:
    with pytest.raises(ValueError, match=r"intensity_range=\(1, 0\); expected two rising numbers"):
        EfficientNetLite0((1, 0))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r'"meddiffusers\[features\]"'):
        EfficientNetLite0()
