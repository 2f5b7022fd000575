"""Training task of an `AttributeVAE`.

Loss = w_r · −log p(x | z) + w_d · (1 − Dice) + β · KL + γ · ordering + γ_r · regression + γ_c · consistency, with z
sampled from q(z | x):

| symbol | setting | purpose |
|---|---|---|
| w_r, w_d | `reconstruction_weight`, `dice_weight` | Dice for categorical models only |
| β | `kl_weight` | |
| γ, δ | `ordering_weight`, `ordering_sharpness` | latents in the order of the attribute (Pati & Lerch 2020) |
| γ_r | `regression_weight` | latent = standardised attribute: σ stays at 1, the relation is linear |
| γ_c | `consistency_weight` | an attribute edited in z is predicted from the decoded image again |

The consistency loss makes the decoder use every attribute, including those that contribute little to the
reconstruction. With γ = γ_r = γ_c = 0, or without attributes, the model is a plain VAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from meddiffusers.datasets.attribute_config import AttributeDataConfig, load_attribute_data
from meddiffusers.datasets.attribute_images import AttributeImages
from meddiffusers.datasets.attribute_measures import Measure, get_measure
from meddiffusers.evaluation.attributes.batched import BATCH
from meddiffusers.evaluation.attributes.calibration import calibration_by_decoding, calibration_by_encoding
from meddiffusers.evaluation.attributes.latent_moments import latent_moments
from meddiffusers.evaluation.attributes.report import LEAST, evaluate_attributes
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.models.attribute_vae import AttributeVAE
from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
from meddiffusers.training.engine.distributed import gather_with_gradient
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.vae import (
    consistency_loss,
    kl_divergence,
    negative_log_likelihood,
    ordering_loss,
    regression_loss,
    soft_dice_loss,
)
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig, build_attribute_vae
from meddiffusers.training.tasks.unets import round_to_fp16

SHARPENING, IMAGE_NOISE = 2.0, 0.3  # of the images in the consistency loss; σ of the noise in units of intensity
NUM_VALIDATED, NUM_FIGURE = 256, 8  # held-out images of a validation, and those in its figure
NUM_DECODED = 128  # training images whose decoded traversals give the calibration
NUM_ENCODED = 4000  # training images at most for what needs encoding only


class AttributeVAETask:
    """Trains an `AttributeVAE`; the module documents the loss.

    Raises:
        ValueError: `consistency_attributes` names an attribute that the data do not have; fewer than four test images;
            a repository of another architecture; images that do not fit the network.
    """

    def __init__(self, data: AttributeDataConfig, config: AttributeVAEConfig) -> None:
        self.data, self.config = data, config
        unknown = set(config.consistency_attributes) - set(data.attributes)
        if unknown:
            raise ValueError(
                f"consistency_attributes names {', '.join(sorted(unknown))}; expected some of the attributes "
                f"{', '.join(data.attributes) or '(none)'}."
            )
        splits = load_attribute_data(data)
        self.train_dataset, self.test_images = self._images(splits["train"]), self._images(splits["test"])
        if len(self.test_images) < LEAST:
            raise ValueError(
                f"{data.dataset_name} has {len(self.test_images)} test images; expected at least {LEAST}, as fewer say "
                "nothing of the model. Add images, or give a test split of your own."
            )
        self.mean = torch.from_numpy(self.train_dataset.attributes.mean(axis=0))
        self.std = torch.from_numpy(self.train_dataset.attributes.std(axis=0)).clamp_min(1e-12)
        self.vae = build_attribute_vae(data, config)
        self.pipeline = AttributeVAEPipeline(self.vae)
        for images in (self.train_dataset.images, self.test_images.images):
            for batch in images.split(BATCH):
                self.pipeline.preprocess(batch)  # reports a wrong size, range or label before training

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The VAE."""
        return {"vae": self.vae}

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images (B, C, H, W) in `value_range`, and standardised attributes (B, A)."""
        images = self.pipeline.preprocess(torch.stack([item["images"] for item in items]))
        attributes = torch.from_numpy(np.stack([item["attributes"] for item in items]))
        return {"images": images, "attributes": ((attributes - self.mean) / self.std).float()}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The weighted sum of the terms, and each term without its weight."""
        config, images = self.config, batch["images"]
        if config.max_shift:
            offsets = random.randint(0, 2 * config.max_shift + 1, (len(images), 2))
            images = _shift(images, offsets, config.max_shift)
        noise = random.randn(len(images), config.latent_dim)
        output = modules["vae"](images, noise=noise)
        posterior, count = output.latent_dist, len(self.data.attributes)
        terms = {
            "reconstruction": negative_log_likelihood(output.sample.float(), images, config.likelihood),
            "kl": kl_divergence(posterior.mean.float(), posterior.logvar.float()),
        }
        total = config.reconstruction_weight * terms["reconstruction"] + config.kl_weight * terms["kl"]
        if config.dice_weight:
            terms["dice"] = soft_dice_loss(output.sample.float(), images)
            total = total + config.dice_weight * terms["dice"]
        if count:
            latents = gather_with_gradient(output.latents[:, :count].float())
            attributes = gather_with_gradient(batch["attributes"])
            terms["ordering"] = ordering_loss(latents, attributes, config.ordering_sharpness)
            terms["regression"] = regression_loss(latents, attributes)
            total = total + config.ordering_weight * terms["ordering"] + config.regression_weight * terms["regression"]
        if config.consistency_weight and count:
            terms["consistency"] = self._consistency(modules["vae"], output.latents.detach(), random)
            total = total + config.consistency_weight * terms["consistency"]
        return {"loss": total, **terms}

    def _consistency(self, vae: nn.Module, latents: Tensor, random: BatchRandom) -> Tensor:
        """The consistency loss of latents (B, K), in each of which one random attribute is set to a sample of N(0, 1).

        The image is sharpened (where the decoder gives logits) and noised before the encoder sees it. This keeps the
        decoder from learning textures that only this encoder takes for the attribute.
        """
        names = self.config.consistency_attributes or self.data.attributes
        dimensions = torch.tensor([self.data.attributes.index(name) for name in names], device=latents.device)
        dimension = dimensions[random.randint(0, len(names), (len(latents),))]
        value = random.randn(len(latents))
        edited = latents.scatter(1, dimension[:, None], value[:, None].to(latents))
        parameters = vae(latents=edited).sample.float()
        model = extract_model_from_parallel(vae)
        if self.config.likelihood != "gaussian":
            parameters = SHARPENING * parameters
        image = model.expectation(parameters)
        noisy = image + IMAGE_NOISE * random.randn_like(image)
        return consistency_loss(model.encoder, noisy, dimension, value)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Loss terms on held-out images, and a figure of images and their reconstructions."""
        count = min(NUM_VALIDATED, len(self.test_images))
        held_out = self.collate([self.test_images[index] for index in range(count)])
        device = next(modules["vae"].parameters()).device
        batch = {name: tensor.to(device) for name, tensor in held_out.items()}
        terms = self.loss(modules, batch, BatchRandom(0, device=device))
        images = self.test_images.images[:NUM_FIGURE]
        reconstructed = AttributeVAEPipeline(modules["vae"]).reconstruct(images, output_type="np").images
        originals = (images if images.ndim == 3 else images.permute(0, 2, 3, 1)).numpy()
        rows = {"image": list(originals), "reconstruction": list(np.asarray(reconstructed))}
        return Validation({name: float(term) for name, term in terms.items()}, {"reconstruction": panel(rows)})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> AttributeVAEPipeline:
        """The pipeline, with its latents calibrated to the attributes' units on training images."""
        vae = cast(AttributeVAE, modules["vae"])
        if self.config.save_in_fp16:
            round_to_fp16(vae)
        pipeline = AttributeVAEPipeline(vae)
        order = np.random.default_rng(0).permutation(len(self.train_dataset))
        images, attributes = self.train_dataset.images[order], self.train_dataset.attributes[order]
        vae.register_to_config(latent_moments=latent_moments(pipeline, images[:NUM_ENCODED]))
        if not self.data.attributes:
            return pipeline
        if self._measure is None:
            calibration = calibration_by_encoding(pipeline, images[:NUM_ENCODED], attributes[:NUM_ENCODED], units={})
        else:
            calibration = calibration_by_decoding(pipeline, images[:NUM_DECODED], self._measure)
        vae.register_to_config(calibration=calibration)
        return pipeline

    def save(self, pipeline: AttributeVAEPipeline, folder: Path) -> None:
        """Save the whole pipeline."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: AttributeVAEPipeline, seed: int = 0) -> Report:
        """Metrics and figures of the trained pipeline on the held-out images."""
        images, attributes = self.test_images.images, self.test_images.attributes
        dataset = f"{Path(self.data.dataset_name).name}, held out"  # local paths are never published
        return evaluate_attributes(pipeline, images, attributes, self._measure, dataset=dataset, seed=seed)

    @property
    def _measure(self) -> Measure | None:
        return get_measure(self.data.measure, self.data.spacing) if self.data.measure else None

    def _images(self, split: datasets.Dataset) -> AttributeImages:
        channels = None if self.config.likelihood == "categorical" else self.config.in_channels
        return AttributeImages(split, self.data.attributes, self.data.image_column, channels)


def _shift(images: Tensor, offsets: Tensor, margin: int) -> Tensor:
    """Images (B, C, H, W) shifted by whole pixels, with edges replicated; offsets (B, 2) are in 0..2·margin."""
    height, width = images.shape[2:]
    padded = F.pad(images, [margin] * 4, mode="replicate")
    rows = offsets[:, 0, None] + torch.arange(height, device=images.device)
    columns = offsets[:, 1, None] + torch.arange(width, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
