"""What the pipeline takes for an image or a label map, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from contracts.pipeline_contract import generator
from helpers.small_attribute_vae import pipeline_of, random_images

from meddiffusers import AttributeVAEPipeline


class TestImages:
    """All kinds of input that hold the same image are the same to the pipeline."""

    ONE: dict[str, Callable[[torch.Tensor], Any]] = {
        "tensor (C, H, W)": lambda x: x,
        "tensor (B, C, H, W)": lambda x: x[None],
        "float64 tensor": lambda x: x.double(),
        "uint8 tensor": lambda x: (255 * x).round().to(torch.uint8),
        "array (H, W)": lambda x: x[0].numpy(),
        "array (H, W, 1)": lambda x: x[0, ..., None].numpy(),
        "array (B, H, W)": lambda x: x.numpy(),
        "array (B, H, W, C)": lambda x: x[..., None].numpy(),
        "uint8 array": lambda x: (255 * x[0]).round().numpy().astype(np.uint8),
        "uint16 array": lambda x: (65535 * x[0]).round().numpy().astype(np.uint16),
        "big-endian array": lambda x: x[0].numpy().astype(">f4"),
        "big-endian uint16 array": lambda x: (65535 * x[0]).round().numpy().astype(">u2"),
        "flipped view": lambda x: x[0].flip(0).numpy()[::-1],
        "PIL image": lambda x: PIL.Image.fromarray((255 * x[0]).round().numpy().astype(np.uint8)),
        "16-bit PIL image": lambda x: PIL.Image.fromarray((65535 * x[0]).round().numpy().astype(np.uint16)),
        "list of one": lambda x: [x],
    }

    @pytest.mark.parametrize("kind", ONE)
    def test_one_grey_image(self, kind: str) -> None:
        image = random_images(1, 8, 12)
        pixels = pipeline_of().preprocess(self.ONE[kind](image))
        assert pixels.dtype == torch.float32
        torch.testing.assert_close(pixels, image[None], rtol=0, atol=1e-6)

    MANY: dict[str, Callable[[torch.Tensor], Any]] = {
        "tensor": lambda x: x,
        "array": lambda x: x.permute(0, 2, 3, 1).numpy(),
        "list of tensors": list,
        "tuple of arrays": lambda x: tuple(image.permute(1, 2, 0).numpy() for image in x),
        "list of batches": lambda x: [x[:2], x[2:]],
        "list of PIL images": lambda x: [
            PIL.Image.fromarray((255 * image).round().permute(1, 2, 0).numpy().astype(np.uint8)) for image in x
        ],
        "types mixed": lambda x: [x[0], (255 * x[1]).round().to(torch.uint8), x[2].double()],
    }

    @pytest.mark.parametrize("kind", MANY)
    def test_many_colour_images(self, kind: str) -> None:
        images = random_images(3, 3, 8, 12)
        pipeline = pipeline_of(in_channels=3)
        given = self.MANY[kind](images)
        torch.testing.assert_close(pipeline.preprocess(given), images, rtol=0, atol=1e-6)
        torch.testing.assert_close(pipeline.encode(given), pipeline.encode(images), rtol=1e-4, atol=1e-5)

    def test_masks_are_black_and_white(self) -> None:
        mask = random_images(8, 12) > 0.5
        for given in (mask.numpy(), mask[None], PIL.Image.fromarray(mask.numpy())):
            assert torch.equal(pipeline_of().preprocess(given), mask[None, None].float())

    def test_a_palette_image_is_its_colours(self) -> None:
        indices = PIL.Image.fromarray(np.tile(np.array([0, 1], np.uint8), (8, 6)))
        indices.putpalette([0, 0, 0, 255, 51, 0])
        pixels = pipeline_of(in_channels=3).preprocess(indices)
        torch.testing.assert_close(pixels[0, :, 0, 1], torch.tensor([1, 0.2, 0]))

    def test_integers_fill_the_value_range(self) -> None:
        pipeline = pipeline_of(likelihood="gaussian", value_range=(-1, 3))
        pixels = pipeline.preprocess(np.tile(np.array([0, 51, 255], np.uint8), (8, 4)))
        torch.testing.assert_close(pixels[0, 0, 0, :3], torch.tensor([-1, -0.2, 3]))

    def test_many_channels(self) -> None:
        pipeline, images = pipeline_of(in_channels=6), random_images(2, 6, 8, 12)
        assert torch.equal(pipeline.preprocess(images[0].permute(1, 2, 0).numpy()), images[:1])

    def test_rounding_just_beyond_the_range_is_clipped(self) -> None:
        pixels = pipeline_of().preprocess(np.tile(np.array([-5e-4, 1 + 5e-4], np.float32), (8, 6)))
        assert (pixels.min(), pixels.max()) == (0, 1)

    def test_what_comes_out_goes_in(self) -> None:
        pipeline = pipeline_of()
        outputs = [pipeline.sample(3, generator(0), output_type).images for output_type in ("pt", "np", "pil")]
        for images, tolerance in zip(outputs, (0, 0, 0.002), strict=True):
            torch.testing.assert_close(pipeline.preprocess(images), outputs[0], rtol=0, atol=tolerance + 1e-7)

    BAD: list[tuple[Any, type[Exception], str]] = [
        (torch.full((1, 8, 12), torch.nan), ValueError, r"96 pixels are NaN or infinite\. Replace or mask"),
        (torch.full((1, 8, 12), -torch.inf), ValueError, r"96 pixels are NaN or infinite"),
        (torch.rand(3, 8, 12), ValueError, r"\(channels, height, width\) \(3, 8, 12\), expected \(1, 8, 12\)\. Crop"),
        (np.zeros((8, 12, 3)), ValueError, r"\(3, 8, 12\), expected \(1, 8, 12\)"),
        (PIL.Image.new("RGB", (12, 8)), ValueError, r"\(3, 8, 12\), expected \(1, 8, 12\)"),
        (torch.rand(1, 12, 8), ValueError, r"\(1, 12, 8\), expected \(1, 8, 12\)"),
        ([torch.rand(1, 8, 12), torch.rand(1, 8, 11)], ValueError, r"\(1, 8, 11\), expected \(1, 8, 12\)"),
        (torch.rand(8, 12), ValueError, r"shape \(8, 12\), expected .* or a tensor \(C, H, W\) or \(B, C, H, W\)"),
        (np.zeros(12), ValueError, r"shape \(12,\), expected an array \(H, W\), \(H, W, C\)"),
        (np.zeros((1, 1, 8, 12, 1)), ValueError, r"shape \(1, 1, 8, 12, 1\), expected"),
        (np.full((8, 12), 255.0), ValueError, r"in \[255, 255\], expected the model's range \[0, 1\]\. Rescale"),
        (np.full((8, 12), -0.1), ValueError, r"in \[-0\.1, -0\.1\], expected the model's range \[0, 1\]"),
        (np.zeros((8, 12), np.int32), ValueError, r"type torch\.int32, .* Convert to uint8, uint16 or to floats in"),
        ([], ValueError, r"an empty list of images, expected at least one"),
        ("digit.png", TypeError, r"Got a str, expected a PIL image, a numpy array, a tensor or a list"),
        ([None], TypeError, r"Got a NoneType"),
    ]

    @pytest.mark.parametrize(("images", "error", "message"), BAD)
    def test_bad_images_are_refused(self, images: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            pipeline_of().encode(images)


class TestLabelMaps:
    LABELS = torch.arange(96).reshape(1, 8, 12) % 4
    KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
        "tensor (B, H, W)": lambda x: x,
        "tensor (H, W)": lambda x: x[0],
        "float tensor": lambda x: x.float(),
        "array (H, W)": lambda x: x[0].numpy(),
        "array (B, H, W)": lambda x: x.numpy().astype(np.uint16),
        "PIL image": lambda x: PIL.Image.fromarray(x[0].numpy().astype(np.uint8)),
        "list": lambda x: [x[0].numpy()],
    }

    @pytest.fixture
    def pipeline(self) -> AttributeVAEPipeline:
        pipeline = pipeline_of(in_channels=4, likelihood="categorical")
        torch.nn.init.zeros_(pipeline.vae.decoder[-1].bias)  # which would choose one label for every pixel
        return pipeline

    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds_of_input(self, pipeline: AttributeVAEPipeline, kind: str) -> None:
        one_hot = torch.stack([torch.eq(self.LABELS, label).float() for label in range(4)], dim=1)
        assert torch.equal(pipeline.preprocess(self.KINDS[kind](self.LABELS)), one_hot)

    def test_outputs_are_the_likeliest_labels(self, pipeline: AttributeVAEPipeline) -> None:
        latents = torch.randn(3, 4, generator=generator(0))
        labels = pipeline.vae.decoder(latents).argmax(dim=1)
        assert labels.unique().numel() > 1
        pt, array, pil = (pipeline.decode(latents, output_type=kind).images for kind in ("pt", "np", "pil"))
        assert torch.equal(pt, labels)
        np.testing.assert_array_equal(array, labels.numpy())
        assert {image.mode for image in pil} == {"P"}
        np.testing.assert_array_equal(np.stack(pil), array)
        for images in (pt, array, pil):
            assert torch.equal(pipeline.preprocess(images).argmax(dim=1), labels)

    def test_labels_that_are_whole_up_to_rounding(self, pipeline: AttributeVAEPipeline) -> None:
        """Which truncation would take for 2."""
        assert torch.equal(pipeline.preprocess(np.full((8, 12), 2.9995)), pipeline.preprocess(np.full((8, 12), 3)))

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.full((8, 12), 1.5), r"fractional labels, expected integers\. Resample .* nearest neighbours"),
            (np.full((8, 12), 2.998), r"fractional labels"),
            (np.full((8, 12), np.nan), r"fractional labels"),
            (np.full((8, 12), 4), r"labels 4 to 4, expected 0 to 3\. Map them first"),
            (np.full((8, 12), -1), r"labels -1 to -1, expected 0 to 3"),
            (np.zeros((12, 8), np.uint8), r"height and width \(12, 8\), expected \(8, 12\)"),
            (np.zeros((1, 1, 8, 12), np.uint8), r"shape \(1, 1, 8, 12\), expected \(H, W\) or \(B, H, W\)"),
        ],
    )
    def test_bad_label_maps_are_refused(self, pipeline: AttributeVAEPipeline, labels: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            pipeline.encode(labels)
