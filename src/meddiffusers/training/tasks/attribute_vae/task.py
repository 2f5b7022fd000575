"""The learning problem of an AttributeVAE, for the engine.

Loss = w_r · −log p(x | z) + w_d · (1 − Dice) + β · KL + γ · ordering + γ_r · regression + γ_c · consistency, for z
drawn from q(z | x):

| symbol | setting | what it is for |
|---|---|---|
| w_r, w_d | `reconstruction_weight`, `dice_weight` | Dice for categorical models only |
| β | `kl_weight` | |
| γ, δ | `ordering_weight`, `ordering_sharpness` | order of the latents = order of the attribute (Pati & Lerch 2020) |
| γ_r | `regression_weight` | latent = standardised attribute: keeps its σ at 1, makes the relation linear |
| γ_c | `consistency_weight` | an attribute changed in z is read again from the decoded image |

Consistency makes the decoder heed every attribute; by reconstruction alone it heeds those that tell it most.
γ = γ_r = γ_c = 0, or no attributes, is the plain VAE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.attribute_measures import MEASURES, Measure, get_measure
from meddiffusers.evaluation.attributes.batched import BATCH
from meddiffusers.evaluation.attributes.calibration import calibration_by_decoding, calibration_by_encoding
from meddiffusers.evaluation.attributes.latent_moments import latent_moments
from meddiffusers.evaluation.attributes.report import evaluate_attributes
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
from meddiffusers.training.tasks.unets import round_to_half
from meddiffusers.utils.settings import list_setting, setting

SHARPENING, IMAGE_NOISE = 2.0, 0.3  # of images that the consistency loss reads; noise in units of intensity
CALIBRATED = 128  # training images whose decoded sweeps give the calibration
ENCODED = 4000  # training images at most for what needs encoding alone

ARCHITECTURE = (
    "in_channels",
    "sample_size",
    "block_out_channels",
    "hidden_dim",
    "latent_dim",
    "attributes",
    "likelihood",
    "value_range",
)


@dataclass
class AttributeVAEConfig:
    """What to train, on what, with which loss."""

    dataset_name: str = setting(
        "digits", "'digits', 'cardiac_phantom' or a CAMUS folder, a folder of images, or a data set of the Hub."
    )
    image_column: str = setting("image", "Column of the images.")
    attributes: list[str] = list_setting([], "Attributes; each gets a latent dimension. None: a plain VAE.")
    measure: str | None = setting(None, f"What measures attributes that are no columns: {', '.join(MEASURES)}.")
    split_seed: int = setting(0, "Seed of the split into training and held-out images.")
    spacing: float = setting(1.0, "Edge length of a pixel in mm, for attributes that are measured in mm.")
    cardiac_sequences: int | None = setting(None, "So many beats of hearts to train on, if hearts.")
    max_train_samples: int | None = setting(None, "Train on the first so many images only.")

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder to start from.")
    in_channels: int = setting(1, "Channels of an image, or number of labels.")
    sample_size: int = setting(28, "Side of an image in pixels.")
    block_out_channels: list[int] = list_setting([32, 64], "Channels of each stride-2 block.")
    hidden_dim: int = setting(256, "Width of the dense layers.")
    latent_dim: int = setting(16, "Number of latent dimensions, K.")
    likelihood: str = setting("bernoulli", "bernoulli, gaussian or categorical.")
    value_range: list[float] = list_setting([0.0, 1.0], "Lowest and highest intensity.")

    reconstruction_weight: float = setting(1.0, "Weight of −log p(x|z), summed over the pixels.")
    dice_weight: float = setting(0.0, "Weight of 1 − Dice, for label maps.")
    kl_weight: float = setting(1.0, "β: weight of the KL divergence.")
    ordering_weight: float = setting(10.0, "γ: weight of the ordering loss.")
    ordering_sharpness: float = setting(10.0, "δ: how sharply the ordering loss tells latents apart.")
    regression_weight: float = setting(0.0, "γ_r: weight of the squared error to the standardised attribute.")
    consistency_weight: float = setting(0.0, "γ_c: weight of reading a changed attribute again from the decoded image.")
    consistency_attributes: list[str] = list_setting(
        [], "Attributes that consistency draws from; all alike if not given."
    )
    max_shift: int = setting(0, "Training images are moved by up to so many pixels, where attributes allow it.")
    save_in_fp16: bool = setting(False, "Round the trained weights to what half precision stores.")


class AttributeVAETask:
    """Builds the model and its data; see the module for the loss."""

    def __init__(self, config: AttributeVAEConfig) -> None:
        self.config = config
        unknown = set(config.consistency_attributes) - set(config.attributes)
        if unknown:
            raise ValueError(
                f"consistency_attributes names {', '.join(sorted(unknown))}; expected some of the attributes "
                f"{', '.join(config.attributes) or '(none)'}."
            )
        self.data = load_attribute_images(
            config.dataset_name,
            attributes=config.attributes,
            measure=config.measure,
            image_column=config.image_column,
            seed=config.split_seed,
            max_samples=config.max_train_samples,
            size=config.sample_size,
            spacing=config.spacing,
            sequences=config.cardiac_sequences,
        )
        self.train_dataset = self._images(self.data["train"])
        self.test_images = self._images(self.data["test"])
        self.mean = torch.from_numpy(self.train_dataset.attributes.mean(axis=0))
        self.std = torch.from_numpy(self.train_dataset.attributes.std(axis=0)).clamp_min(1e-12)
        self.vae = self._build_model()
        self.pipeline = AttributeVAEPipeline(self.vae)
        for images in (self.train_dataset.images, self.test_images.images):
            for batch in images.split(BATCH):
                self.pipeline.preprocess(batch)  # a wrong size, range or label shows before any work

    @property
    def modules(self) -> Mapping[str, ModelMixin]:
        """The one network."""
        return {"vae": self.vae}

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images in `value_range`, (B, C, H, W), and standardised attributes (B, A)."""
        images = self.pipeline.preprocess(torch.stack([item["images"] for item in items]))
        attributes = torch.from_numpy(np.stack([item["attributes"] for item in items]))
        return {"images": images, "attributes": ((attributes - self.mean) / self.std).float()}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The terms of the loss, unweighted, and their sum, weighted."""
        config, images = self.config, batch["images"]
        if config.max_shift:
            images = _shifted(images, random.randint(0, 2 * config.max_shift + 1, (len(images), 2)), config.max_shift)
        noise = random.randn(len(images), config.latent_dim)
        output = modules["vae"](images, noise=noise)
        posterior, count = output.latent_dist, len(config.attributes)
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
        """The consistency loss of latents (B, K) with one attribute each, drawn at random, set to a draw of N(0, 1).

        The image is sharpened (where it has logits) and noised before it is read, lest the decoder learn textures
        that only this encoder takes for the attribute.
        """
        names = self.config.consistency_attributes or self.config.attributes
        dimensions = torch.tensor([self.config.attributes.index(name) for name in names], device=latents.device)
        dimension = dimensions[random.randint(0, len(names), (len(latents),))]
        value = random.randn(len(latents))
        moved = latents.scatter(1, dimension[:, None], value[:, None].to(latents))
        parameters = vae(latents=moved).sample.float()
        model = extract_model_from_parallel(vae)
        if self.config.likelihood != "gaussian":
            parameters = SHARPENING * parameters
        image = model.expectation(parameters)
        noised = image + IMAGE_NOISE * random.randn_like(image)
        return consistency_loss(model.encoder, noised, dimension, value)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Loss terms on held-out images, and a panel of images above their reconstructions."""
        held_out = [self.test_images[index] for index in range(min(256, len(self.test_images)))]
        device = next(modules["vae"].parameters()).device
        batch = {name: tensor.to(device) for name, tensor in self.collate(held_out).items()}
        terms = self.loss(modules, batch, BatchRandom(0, device=device))
        shown = self.test_images.images[:8]
        rebuilt = AttributeVAEPipeline(modules["vae"]).reconstruct(shown, output_type="np").images
        originals = (shown if shown.ndim == 3 else shown.permute(0, 2, 3, 1)).numpy()
        rows = {"image": list(originals), "reconstruction": list(np.asarray(rebuilt))}
        return Validation({name: float(term) for name, term in terms.items()}, {"reconstruction": panel(rows)})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> AttributeVAEPipeline:
        """The pipeline, its attributes calibrated to their own units on training images."""
        vae = cast(AttributeVAE, modules["vae"])
        if self.config.save_in_fp16:
            round_to_half(vae)
        pipeline = AttributeVAEPipeline(vae)
        some = np.random.default_rng(0).permutation(len(self.train_dataset))
        images, attributes = self.train_dataset.images[some], self.train_dataset.attributes[some]
        vae.register_to_config(latent_moments=latent_moments(pipeline, images[:ENCODED]))
        if not self.config.attributes:
            return pipeline
        if self._measure is None:
            calibration = calibration_by_encoding(pipeline, images[:ENCODED], attributes[:ENCODED], units={})
        else:
            calibration = calibration_by_decoding(pipeline, images[:CALIBRATED], self._measure)
        vae.register_to_config(calibration=calibration)
        return pipeline

    def save(self, pipeline: AttributeVAEPipeline, folder: Path) -> None:
        """The whole pipeline."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: AttributeVAEPipeline) -> Report:
        """Metrics and images of the trained pipeline on the held-out images."""
        images, attributes = self.test_images.images, self.test_images.attributes
        dataset = f"{Path(self.config.dataset_name).name}, held out"  # a folder's place is nobody's business
        return evaluate_attributes(pipeline, images, attributes, self._measure, dataset=dataset)

    @property
    def _measure(self) -> Measure | None:
        return get_measure(self.config.measure, self.config.spacing) if self.config.measure else None

    def _images(self, split: datasets.Dataset) -> AttributeImages:
        labels = self.config.likelihood == "categorical"
        return AttributeImages(split, self.config.attributes, self.config.image_column, labels)

    def _build_model(self) -> AttributeVAE:
        config = self.config
        if config.pretrained_model_name_or_path is None:
            return AttributeVAE(**{name: getattr(config, name) for name in ARCHITECTURE})
        vae = AttributeVAE.from_pretrained(config.pretrained_model_name_or_path, subfolder="vae")
        theirs = json.loads(vae.to_json_string())
        differing = [name for name in ARCHITECTURE if theirs[name] != getattr(config, name)]
        if differing:
            listed = ", ".join(f"{name} {theirs[name]!r} (here {getattr(config, name)!r})" for name in differing)
            raise ValueError(
                f"{config.pretrained_model_name_or_path} has {listed}. Configure the same to start from it."
            )
        return vae


def _shifted(images: Tensor, offsets: Tensor, margin: int) -> Tensor:
    """Images (B, C, H, W) moved by whole pixels, offsets (B, 2) in 0..2·margin; edges are repeated."""
    height, width = images.shape[2:]
    padded = F.pad(images, [margin] * 4, mode="replicate")
    rows = offsets[:, 0, None] + torch.arange(height, device=images.device)
    columns = offsets[:, 1, None] + torch.arange(width, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
