"""The AttributeVAE task: consistency loss and shifted images against brute force, and where training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES
from meddiffusers.models.attribute_vae import AttributeVAE
from meddiffusers.training.losses.vae import consistency_loss
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig
from meddiffusers.training.tasks.attribute_vae.task import AttributeVAETask, _shift


def test_consistency_loss_is_the_squared_error_of_what_the_encoder_reads() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    image = torch.randn(5, 1, 2, 2, requires_grad=True)
    dimension, value = torch.tensor([0, 2, 1, 2, 0]), torch.randn(5)
    loss = consistency_loss(encoder, image, dimension, value)
    read = encoder(image)
    expected = sum((read[i, dimension[i]] - value[i]) ** 2 for i in range(5)) / 5
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_images_are_shifted_by_whole_pixels_and_their_edges_repeated() -> None:
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    offsets = torch.tensor([[0, 2], [1, 1]])  # up-left corner of the crop: one up and one right, and not at all
    shifted = _shift(images, offsets, margin=1)
    torch.testing.assert_close(shifted[1], images[1])
    torch.testing.assert_close(shifted[0, :, 1:, :-1], images[0, :, :-1, 1:])
    torch.testing.assert_close(shifted[0, :, 0, :-1], images[0, :, 0, 1:])
    torch.testing.assert_close(shifted[0, :, :, -1], shifted[0, :, :, -2])


def test_consistency_of_an_unknown_attribute_is_refused() -> None:
    data, config = AttributeDataConfig(attributes=["area"]), AttributeVAEConfig(consistency_attributes=["length"])
    with pytest.raises(ValueError, match=r"consistency_attributes names length; expected some of the attributes area"):
        AttributeVAETask(data, config)


SHIPPED = Path(__file__).parents[4] / "examples" / "checkpoints" / "ar-vae-mnist"


@pytest.mark.slow
def test_training_starts_from_the_weights_of_a_repository() -> None:
    data = AttributeDataConfig(attributes=list(DIGIT_ATTRIBUTES))
    config = AttributeVAEConfig(pretrained_model_name_or_path=str(SHIPPED))
    started, shipped = AttributeVAETask(data, config).vae, AttributeVAE.from_pretrained(SHIPPED, subfolder="vae")
    for name, weight in shipped.state_dict().items():
        assert torch.equal(started.state_dict()[name], weight)


@pytest.mark.slow
def test_a_repository_of_another_architecture_is_refused() -> None:
    data = AttributeDataConfig(attributes=[])
    config = AttributeVAEConfig(latent_dim=8, pretrained_model_name_or_path=str(SHIPPED))
    with pytest.raises(
        ValueError, match=r"latent_dim 16 \(here 8\), attributes \['area', .*\] \(here \[\]\)\. Configure"
    ):
        AttributeVAETask(data, config)


@pytest.mark.slow
def test_weights_are_rounded_before_attributes_are_calibrated() -> None:
    data = AttributeDataConfig(attributes=list(DIGIT_ATTRIBUTES), measure="digits", max_train_samples=64)
    task = AttributeVAETask(data, AttributeVAEConfig(pretrained_model_name_or_path=str(SHIPPED), save_in_fp16=True))
    with torch.no_grad():
        for weight in task.vae.parameters():
            weight.mul_(1 + 1e-5)
    pipeline = task.build_pipeline(task.modules)
    for weight in pipeline.vae.parameters():
        assert torch.equal(weight, weight.half().float())
    assert pipeline.vae.config["calibration"]["area"]["values"]
