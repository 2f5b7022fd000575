from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from torch import Tensor

from meddiffusers import ConditionedUNet

NETWORK: dict[str, Any] = {
    "num_res_blocks": [1, 1],
    "channels": [4, 8],
    "attention_levels": [False, True],
    "norm_num_groups": 2,
    "num_head_channels": [0, 4],
}
RANGES = {"age": [20, 80], "sex": ["F", "M"], "ventricular_volume_ml": [10.0, 60.0]}


class TestConditionedUNet(ModelContract, PublishedContract):
    """Volumes of covariates, as Pinaya et al. condition them."""

    model_class = ConditionedUNet
    config = {
        "latent_channels": 2,
        "sample_size": [4, 6, 4],
        "covariates": [[name, ends] for name, ends in RANGES.items()],
        "network": NETWORK,
    }

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        noisy, covariates = torch.randn(batch_size, 2, 4, 6, 4), torch.rand(batch_size, 3)
        return {"sample": noisy, "timestep": torch.arange(batch_size), "covariates": covariates}

    def test_the_gradient_reaches_every_parameter(self) -> None:
        """But for those that weigh tokens against each other, of which there is but one."""
        gradients = self.gradients(self.build())
        idle = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
        assert all(any(part in name for part in ("attn2.to_q", "attn2.to_k", "norm2")) for name in idle)


class TestConditionedUNetOfMasks(ModelContract, PublishedContract):
    """Images of label maps, voxel by voxel, and classes."""

    model_class = ConditionedUNet
    config = {
        "spatial_dims": 2,
        "latent_channels": 2,
        "sample_size": [4, 4],
        "id2label": ["well", "ill"],
        "mask_labels": {"1": "core", "4": "rim"},
        "mask_downsample": 2,
        "mask_space_to_depth": True,
        "network": NETWORK,
    }

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        masks = torch.tensor([0, 1, 4])[torch.randint(3, (batch_size, 8, 8))]
        noisy, labels = torch.randn(batch_size, 2, 4, 4), torch.arange(batch_size) % 3
        return {"sample": noisy, "timestep": torch.arange(batch_size), "class_labels": labels, "masks": masks}


def build(**config: Any) -> ConditionedUNet:
    torch.manual_seed(0)
    model = ConditionedUNet(**{"latent_channels": 2, "sample_size": [4, 4, 4], "network": NETWORK, **config}).eval()
    torch.nn.init.normal_(model.unet.out[2].conv.weight)
    return model


def seen(model: ConditionedUNet, **given: Any) -> tuple[Tensor, Any, Any]:
    """What reaches MONAI's network: its input, its context and its labels."""
    found: list[Any] = []
    model.unet.register_forward_pre_hook(lambda _, args, kwargs: found.append((args[0], kwargs)), with_kwargs=True)
    model(**given)
    return found[-1][0], found[-1][1]["context"], found[-1][1]["class_labels"]


@torch.no_grad()
def test_covariates_are_channels_and_a_token() -> None:
    model, z = build(covariates=RANGES), torch.randn(2, 2, 4, 4, 4)
    conditions = torch.tensor([[0.1, 0.0, 0.7], [0.5, 1.0, -1.0]])
    x, context, _ = seen(model, sample=z, timestep=3, covariates=conditions)
    assert torch.equal(x[:, :2], z)
    assert torch.equal(x[:, 2:], conditions[:, :, None, None, None].expand(-1, -1, 4, 4, 4))
    assert torch.equal(context, conditions[:, None])


@torch.no_grad()
def test_waves_of_covariates_are_told_beside_them_where_they_are_known() -> None:
    model, conditions = build(covariates=RANGES, num_fourier_features=2), torch.tensor([[0.25, -1.0, 1.0]])
    x, context, _ = seen(model, sample=torch.zeros(1, 2, 4, 4, 4), timestep=3, covariates=conditions)
    half = 0.5**0.5
    expected = torch.tensor([[0.25, -1, 1, half, 0, half, 1, 0, 0, 0, 0, -1, 1, 0, 0]])
    torch.testing.assert_close(context, expected[:, None], atol=1e-6, rtol=0)
    torch.testing.assert_close(x[:, 2:, 0, 0, 0], expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_what_is_left_out_is_unknown() -> None:
    model = build(covariates=RANGES, id2label=["a", "b"], mask_labels={1: "x"}, mask_downsample=2)
    x, context, labels = seen(model, sample=torch.zeros(2, 2, 4, 4, 4), timestep=3)
    assert (x[:, 2:5] == -1).all() and (context == -1).all()
    assert (x[:, 5:] == 0).all() and labels.tolist() == [2, 2]


@pytest.mark.parametrize("voxels", [False, True])
@torch.no_grad()
def test_channels_of_label_maps(voxels: bool) -> None:
    config: dict[str, Any] = {"spatial_dims": 2, "sample_size": [4, 4], "mask_labels": {2: "x", 7: "y"}}
    model = build(**config, mask_downsample=3, mask_space_to_depth=voxels)
    mask = torch.tensor([0, 2, 7])[torch.randint(3, (2, 12, 12))]
    x, _, _ = seen(model, sample=torch.zeros(2, 2, 4, 4), timestep=3, masks=mask)
    conditions = x[:, 2:]
    assert (conditions[:, 0] == 1).all()
    for n, row, column in ((0, 0, 0), (1, 2, 3), (0, 3, 1)):
        block = mask[n, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        for place, label in enumerate((2, 7)):
            if voxels:
                found = conditions[n, 1 + 9 * place : 10 + 9 * place, row, column].view(3, 3)
                assert torch.equal(found, (block == label).float())
            else:
                assert conditions[n, 1 + place, row, column] == pytest.approx((block == label).float().mean())


@torch.no_grad()
def test_a_map_of_nothing_known_is_no_map() -> None:
    model = build(mask_labels={1: "x"}, mask_downsample=2)
    masks = torch.stack([torch.zeros(8, 8, 8), torch.full((8, 8, 8), -1.0)])
    x, _, _ = seen(model, sample=torch.zeros(2, 2, 4, 4, 4), timestep=3, masks=masks)
    assert (x[0, 2] == 1).all() and (x[1, 2:] == 0).all()


def test_covariates_are_scaled_by_their_ranges() -> None:
    model = build(covariates=RANGES)
    rows = [{"age": 50, "sex": "M", "ventricular_volume_ml": 35}, {"sex": "F"}, {"age": math.nan, "sex": None}]
    expected = torch.tensor([[0.5, 1.0, 0.5], [-1, 0, -1], [-1, -1, -1]])
    assert torch.equal(model.scale_covariates(rows), expected)
    assert model.scale_covariates([]).shape == (0, 3)


def test_what_is_saved_keeps_the_order_of_covariates_and_labels(tmp_path: Path) -> None:
    names = {"weight": [40, 120], "sex": ["M", "F"], "age": [20, 80]}
    model = build(covariates=names, mask_labels={"10": "rim", "2": "core"})
    model.save_pretrained(tmp_path)
    again = ConditionedUNet.from_pretrained(tmp_path)
    assert list(again.covariates.items()) == list(names.items())
    rows = [{"weight": 60, "sex": "F", "age": 35}]
    assert torch.equal(again.scale_covariates(rows), model.scale_covariates(rows))
    assert again.scale_covariates(rows).tolist() == [[0.25, 1.0, 0.25]]
    assert list(again.mask_labels) == list(model.mask_labels) == [2, 10]


def test_a_number_outside_its_range_is_refused_or_warned_of() -> None:
    model = build(covariates=RANGES)
    with pytest.raises(ValueError, match=r"age=95 is outside 20 to 80, .*pass extrapolate=True"):
        model.scale_covariates([{"age": 95}])
    with pytest.warns(UserWarning, match="age=95 is outside 20 to 80"):
        assert model.scale_covariates([{"age": 95}], extrapolate=True)[0, 0] == pytest.approx(1.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.scale_covariates([{"age": 80}, {"age": 20}], extrapolate=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"height": 3}], "Got the covariates height; the model takes age, sex, ventricular_volume_ml"),
        ([{"sex": "X"}], "sex='X'; expected one of F, M"),
    ],
)
def test_unknown_covariates_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(covariates=RANGES).scale_covariates(rows)


def test_conditions_that_it_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="Got covariates, class_labels; this model takes masks"):
        build(mask_labels={1: "x"})(torch.zeros(1, 2, 4, 4, 4), 0, torch.zeros(1, 3), torch.zeros(1))
    with pytest.raises(ValueError, match="Got masks; this model takes no conditions"):
        build()(torch.zeros(1, 2, 4, 4, 4), 0, masks=torch.zeros(1, 8, 8, 8))


@pytest.mark.parametrize("change", [{"sample_size": [4, 4]}, {"network": {**NETWORK, "in_channels": 3}}])
def test_a_configuration_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected as many sides as dimensions, and none of these"):
        build(**change)
