"""The consistency loss and the moved images of the AttributeVAE task, against brute force."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from meddiffusers.training.attribute_vae_task import AttributeVAEConfig, AttributeVAETask, _shifted
from meddiffusers.training.losses import consistency_loss


def test_consistency_loss_is_the_squared_error_of_what_the_encoder_reads() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    picture = torch.randn(5, 1, 2, 2, requires_grad=True)
    dimension, value = torch.tensor([0, 2, 1, 2, 0]), torch.randn(5)
    loss = consistency_loss(encoder, picture, dimension, value)
    read = encoder(picture)
    expected = sum((read[i, dimension[i]] - value[i]) ** 2 for i in range(5)) / 5
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_images_are_moved_by_whole_pixels_and_their_edges_repeated() -> None:
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    offsets = torch.tensor([[0, 2], [1, 1]])  # up-left corner of the crop: one up and one right, and not at all
    moved = _shifted(images, offsets, margin=1)
    torch.testing.assert_close(moved[1], images[1])
    torch.testing.assert_close(moved[0, :, 1:, :-1], images[0, :, :-1, 1:])
    torch.testing.assert_close(moved[0, :, 0, :-1], images[0, :, 0, 1:])
    torch.testing.assert_close(moved[0, :, :, -1], moved[0, :, :, -2])


def test_consistency_for_what_is_no_attribute_is_refused() -> None:
    config = AttributeVAEConfig(attributes=["area"], consistency_attributes=["length"])
    with pytest.raises(ValueError, match=r"consistency_attributes names length; expected some of the attributes area"):
        AttributeVAETask(config)
