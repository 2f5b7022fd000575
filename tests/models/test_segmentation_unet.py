from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract, assert_same, differs
from contracts.published_contract import PublishedContract
from diffusers import UNet2DModel
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from meddiffusers import SegmentationUNet

NETWORK: dict[str, Any] = {
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "add_attention": False,  # its Linear takes another kernel once the weights are frozen, which `test_lora` would see
}
ONE_BLOCK = {**NETWORK, "block_out_channels": [4], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
ATTENTION = {**NETWORK, "add_attention": True, "attention_head_dim": 4}


class TestSegmentationUNet(ModelContract, PublishedContract):
    model_class = SegmentationUNet
    config = {
        "image_channels": 2,
        "mask_channels": 3,
        "patch_size": 2,
        "sample_size": 8,
        "denoiser_config": NETWORK,
        "image_encoder_config": {**NETWORK, "block_out_channels": [4, 4]},
        "feature_channels": 13,
    }

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        noise, image = torch.randn(batch_size, 3, 8, 8), torch.rand(batch_size, 2, 8, 8)
        times = 900 + torch.arange(batch_size)  # when masks look like noise
        return {"sample": noise, "timestep": times, "image": image}


class TestWithoutImageEncoder(ModelContract, PublishedContract):
    model_class = SegmentationUNet
    config = {"image_channels": 2, "out_channels": 2, "sample_size": 8, "denoiser_config": NETWORK}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        noise, image = torch.randn(batch_size, 1, 8, 8), torch.rand(batch_size, 2, 8, 8)
        return {"sample": noise, "timestep": torch.arange(batch_size), "image": image}


def build(**config: Any) -> SegmentationUNet:
    torch.manual_seed(0)
    small = {"image_channels": 2, "sample_size": 8, "denoiser_config": NETWORK, "image_encoder_config": ATTENTION}
    return SegmentationUNet(**{**small, "feature_channels": 5, **config}).eval().requires_grad_(False)


def test_the_first_images_are_those_of_fewer_masks() -> None:
    unet, image, noise = build(), torch.rand(3, 2, 8, 8), torch.randn(2, 1, 8, 8)
    output = unet(noise, 7, image=image)
    assert output.prior_logits.shape == (3, 1, 8, 8)
    torch.testing.assert_close(output.sample, unet(noise, 7, image=image[:2]).sample)
    torch.testing.assert_close(output.prior_logits[2:], unet(noise[:1], 7, image=image[2:]).prior_logits)


def test_gradients_of_the_denoiser_stop_at_the_features() -> None:
    model = build().requires_grad_(True)
    output = model(torch.randn(2, 1, 8, 8), 7, image=torch.rand(2, 2, 8, 8))
    output.logits.square().sum().backward()
    assert all(weight.grad is None for weight in model.image_encoder.parameters())
    assert all(weight.grad is not None for weight in model.denoiser.parameters())
    output.prior_logits.square().sum().backward()
    assert all(weight.grad is not None for weight in model.image_encoder.parameters())


NOISE = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
IMAGE = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(2))
TIMES = torch.tensor([0, 999, 3, 500, 500, 42])


class TestForward:
    @pytest.mark.parametrize("config", [{}, {"image_encoder_config": None}, {"patch_size": 2}])
    def test_features_stand_for_the_image(self, config: dict[str, Any]) -> None:
        model = build(**config)
        features = model.encode_image(IMAGE)
        assert_same(model(NOISE, TIMES, features=features), model(NOISE, TIMES, image=IMAGE))

    def test_the_image_is_encoded_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, seen = build(), []
        model.image_encoder.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
        features = model.encode_image(IMAGE)
        for time in range(3):
            model(NOISE, time, features=features)
        assert len(seen) == 1 and torch.equal(seen[0], IMAGE)

    def test_masks_of_an_image_are_as_many_calls(self) -> None:
        model = build()
        together = model(NOISE, TIMES, image=IMAGE).sample
        for index in range(6):
            image, own = IMAGE[index // 3, None], slice(index, index + 1)
            torch.testing.assert_close(together[own], model(NOISE[own], TIMES[own], image=image).sample)

    def test_one_timestep_serves_all(self) -> None:
        model = build()
        assert_same(model(NOISE, 7, image=IMAGE), model(NOISE, torch.full((6,), 7), image=IMAGE))

    def test_the_image_matters(self) -> None:
        model = build()
        assert differs(model(NOISE, 7, image=IMAGE), model(NOISE, 7, image=IMAGE.flip(0)))

    @pytest.mark.parametrize("given", [{}, {"image": IMAGE, "features": IMAGE}])
    def test_neither_or_both_are_refused(self, given: dict[str, Tensor]) -> None:
        with pytest.raises(ValueError, match="either `image`, or the result of `encode_image` as `features`"):
            build()(NOISE, 0, **given)

    def test_a_number_of_masks_that_is_no_multiple_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"5 masks for 2 images; expected as many for each image"):
            build()(NOISE[:5], 0, image=IMAGE)

    def test_offload_in_blocks_fetches_each_network(self, tmp_path: Any) -> None:
        model = build()
        expected = model(NOISE, TIMES, image=IMAGE)
        model.enable_group_offload(torch.device("cpu"), num_blocks_per_group=1, offload_to_disk_path=str(tmp_path))
        for parameter in model.parameters():
            parameter.data.fill_(torch.nan)  # whatever is not read back from disk shows
        assert_same(model(NOISE, TIMES, features=model.encode_image(IMAGE)), expected)


def patches(x: Tensor, side: int) -> Tensor:
    """side×side pixels as channels: channel side²·c + side·i + j is pixel (i, j) of channel c."""
    offsets = [(i, j) for i in range(side) for j in range(side)]
    return torch.stack([x[:, :, i::side, j::side] for i, j in offsets], dim=2).flatten(1, 2)


def unpatched(x: Tensor, side: int) -> Tensor:
    batch, channels, height, width = x.shape
    pixels = x.new_empty(batch, channels // side**2, side * height, side * width)
    for channel in range(side**2):
        pixels[:, :, channel // side :: side, channel % side :: side] = x[:, channel :: side**2]
    return pixels


class TestPatches:
    NOISE = torch.randn(4, 3, 8, 16, generator=torch.Generator().manual_seed(3))
    IMAGE = torch.rand(2, 2, 8, 16, generator=torch.Generator().manual_seed(4))

    def test_timesteps_between_those_of_training(self) -> None:
        """Karras' noise levels are at fractional timesteps; ᾱ is interpolated between the next ones."""
        model, x = build(), torch.ones(1, 1, 8, 8)
        low, high, middle = (model._likelihood_logits(x, t)[0, 0, 0, 0] for t in (400, 401, torch.tensor(400.5)))
        assert high < middle < low
        product = (model.alphas_cumprod[400] + model.alphas_cumprod[401]) / 2
        assert middle.item() == pytest.approx((2 * product.sqrt() / (1 - product)).item(), rel=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("patch", [1, 2])
    def test_logits_are_the_sum_of_prior_likelihood_and_correction(self, channels: int, patch: int) -> None:
        model = build(mask_channels=channels, patch_size=patch, feature_channels=13)
        noise = self.NOISE[:, :channels]
        features = model.image_encoder(patches(self.IMAGE, patch), 0).sample
        correction = model.denoiser(torch.cat([features[[0, 0, 1, 1]], patches(noise, patch)], dim=1), 9).sample
        prior_logits = unpatched(features[:, : channels * patch**2], patch)
        product = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(dim=0)[9]
        likelihood = min(2 * product.sqrt() / (1 - product), 100) * noise
        logits = prior_logits[[0, 0, 1, 1]] + likelihood + unpatched(correction, patch)
        odds = (logits - logits.amax(dim=1, keepdim=True) * (channels > 1)).double().exp()
        probability = odds / odds.sum(dim=1, keepdim=True) if channels > 1 else odds / (1 + odds)
        output = model(noise, 9, image=self.IMAGE)
        torch.testing.assert_close(model.encode_image(self.IMAGE), features, rtol=0, atol=0)
        torch.testing.assert_close(output.prior_logits, prior_logits, rtol=0, atol=0)
        torch.testing.assert_close(output.logits, logits, rtol=0, atol=0)
        torch.testing.assert_close(output.sample, (2 * probability - 1).float())

    def test_without_an_image_encoder_the_output_is_the_prediction(self) -> None:
        model = build(mask_channels=3, out_channels=6, image_encoder_config=None, patch_size=2)
        seen = torch.cat([patches(self.IMAGE, 2)[[0, 0, 1, 1]], patches(self.NOISE, 2)], dim=1)
        output = model(self.NOISE, 9, image=self.IMAGE)
        torch.testing.assert_close(output.sample, unpatched(model.denoiser(seen, 9).sample, 2), rtol=0, atol=0)
        assert output.sample.shape == (4, 6, 8, 16) and output.logits is None and output.prior_logits is None

    @pytest.mark.parametrize(
        ("config", "stride"),
        [
            ({"image_encoder_config": None}, 2),
            ({"patch_size": 2}, 4),
            ({"patch_size": 3, "feature_channels": 9}, 6),
            ({"image_encoder_config": ONE_BLOCK}, 2),
            ({"denoiser_config": ONE_BLOCK}, 2),
            ({"denoiser_config": ONE_BLOCK, "image_encoder_config": ONE_BLOCK, "patch_size": 2}, 2),
        ],
    )
    def test_stride(self, config: dict[str, Any], stride: int) -> None:
        model = build(sample_size=24, **config)
        assert model.stride == stride
        image, noise = torch.rand(1, 2, stride, 3 * stride), torch.randn(2, 1, stride, 3 * stride)
        assert model(noise, 0, image=image).sample.shape == noise.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_correction_each_pixel_has_its_posterior(channels: int) -> None:
    """By Bayes' rule, from the densities of the noisy values."""
    model = build(mask_channels=channels)
    for parameter in model.denoiser.conv_out.parameters():
        parameter.data.zero_()
    clean = 2 * torch.eye(channels).double() - 1 if channels > 1 else torch.tensor([[-1.0], [1.0]]).double()
    noise = torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(5))
    times = torch.tensor([300, 500, 700, 999])
    output = model(noise, times, image=IMAGE)
    prior = output.prior_logits.double().repeat_interleave(2, dim=0)
    prior = prior.softmax(dim=1) if channels > 1 else torch.cat([1 - prior.sigmoid(), prior.sigmoid()], dim=1)
    products = (1 - torch.linspace(1e-4, 0.02, 1000).double()).cumprod(dim=0)[times]
    for index, (product, values) in enumerate(zip(products, noise.double(), strict=True)):
        density = torch.distributions.Normal(product.sqrt() * clean[..., None, None], (1 - product).sqrt())
        joint = prior[index] * density.log_prob(values).sum(dim=1).exp()
        expected = (joint[:, None] * clean[..., None, None]).sum(dim=0) / joint.sum(dim=0)
        torch.testing.assert_close(output.sample[index].double(), expected, rtol=0, atol=2e-5)


class TestFromUNet:
    @pytest.fixture
    def unet(self) -> UNet2DModel:
        torch.manual_seed(0)
        return UNet2DModel(sample_size=8, in_channels=5, out_channels=6, **ATTENTION).eval()

    @torch.no_grad()
    def test_it_is_the_same_network(self, unet: UNet2DModel) -> None:
        noise, image = torch.randn(2, 3, 8, 8), torch.rand(2, 2, 8, 8)
        model = SegmentationUNet.from_unet(unet, mask_channels=3)
        expected = unet(torch.cat([image, noise], dim=1), TIMES[:2])
        assert_same(model(noise, TIMES[:2], image=image), expected)

    def test_it_shares_the_weights(self, unet: UNet2DModel) -> None:
        model = SegmentationUNet.from_unet(unet, mask_channels=3)
        own = {parameter.data_ptr() for parameter in model.parameters()}
        assert own == {parameter.data_ptr() for parameter in unet.parameters()}
        assert model.num_parameters() == unet.num_parameters()

    @torch.no_grad()
    def test_it_is_saved_and_loaded(self, unet: UNet2DModel, tmp_path: Any) -> None:
        model = SegmentationUNet.from_unet(unet, mask_channels=3)
        model.save_pretrained(tmp_path)
        loaded = SegmentationUNet.from_pretrained(tmp_path)
        assert loaded.config["image_channels"] == 2 and loaded.config["sample_size"] == 8
        noise, image = torch.randn(2, 3, 8, 8), torch.rand(2, 2, 8, 8)
        assert_same(loaded(noise, 5, image=image), model(noise, 5, image=image))


class TestLoRA:
    TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "time_emb_proj")

    @pytest.fixture
    def adapted(self) -> SegmentationUNet:
        model = build(denoiser_config=ATTENTION)
        model.add_adapter(LoraConfig(r=2, target_modules=list(self.TARGETS), init_lora_weights=False))
        return model

    def test_an_adapter_changes_the_output_until_it_is_disabled(self, adapted: SegmentationUNet) -> None:
        expected, output = build(denoiser_config=ATTENTION)(NOISE, 7, image=IMAGE), adapted(NOISE, 7, image=IMAGE)
        assert differs(output, expected)
        adapted.disable_adapters()
        assert_same(adapted(NOISE, 7, image=IMAGE), expected)
        adapted.enable_adapters()
        assert_same(adapted(NOISE, 7, image=IMAGE), output)

    def test_both_networks_have_it(self, adapted: SegmentationUNet) -> None:
        weights = get_peft_model_state_dict(adapted)
        for network in ("image_encoder", "denoiser"):
            for target in self.TARGETS:
                own = [name for name in weights if name.startswith(network) and f".{target}.lora_A" in name]
                assert own, f"{network} has no adapter at {target}"
        features = build(denoiser_config=ATTENTION).encode_image(IMAGE)
        assert not torch.allclose(adapted.encode_image(IMAGE), features)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"out_channels": 3}, r"out_channels=3 for mask_channels=1: expected 1, or 2 to learn the variance too"),
        ({"mask_channels": 3, "out_channels": 2}, r"out_channels=2 for mask_channels=3: expected 3, or 6"),
        (
            {"denoiser_config": {"in_channels": 3}},
            r"denoiser_config sets in_channels, which follow from .* Remove them there",
        ),
        (
            {"image_encoder_config": {"sample_size": 8, "out_channels": 1}},
            r"image_encoder_config sets out_channels, sample_size, which follow from image_channels",
        ),
        ({"sample_size": 9, "patch_size": 2}, r"sample_size=9 is not divisible by patch_size=2\. Pad the images or"),
        (
            {"image_encoder_config": NETWORK, "out_channels": 2},
            r"out_channels=2 with an image encoder, .* no variance; expected 1\. Remove",
        ),
        (
            {"image_encoder_config": NETWORK, "patch_size": 2, "mask_channels": 3, "feature_channels": 11},
            r"feature_channels=11: expected at least 12, which hold the logits of 3 mask channels in patches of 2²",
        ),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationUNet(**config)


@pytest.mark.parametrize("make", [lambda: SegmentationUNet(), lambda: SegmentationUNet(image_encoder_config={})])
@pytest.mark.slow
def test_the_defaults_work(make: Callable[[], SegmentationUNet]) -> None:
    with torch.device("meta"):
        model = make()
        output = model(torch.empty(1, 1, 96, 96), torch.zeros(1), image=torch.empty(1, 4, 96, 96)).sample
    assert output.shape == (1, 1, 96, 96)
