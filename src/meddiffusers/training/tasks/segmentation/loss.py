"""The loss of a conditional segmentation diffusion model.

An image b has the masks of one or more raters. The loss takes a random rater's mask x_0 (one-hot, in `mask_range`), a
random time t and noise ε, and the network D(x_t, t, b) predicts ε, x_0 or v (`prediction_type`). This is done
`noise_samples` times for each image, each time with a new rater, so that samples come to vary as raters do. A
`noise_samples` below 1 does it for this fraction of the images only.

- A network without an image encoder is trained with the squared error, optionally with min-SNR weights. With
  `variance_type: learned_range` the variational bound trains the variance too, as in Wolleb et al. 2022.
- A network with an image encoder predicts labels, whose expectation is x_0. It is trained with the cross-entropy, which
  has the same optimum E[x_0 | x_t, b]. The prior logits of the image encoder are trained with the cross-entropy and
  `dice_weight` times the Dice loss; the denoiser is not, since Dice makes samples too similar. Times are sampled with a
  density ∝ t: at small t the mask is clearly visible, and there is little to learn.

Modalities are dropped at random, so that the network accepts images with missing ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.training.engine.distributed import gather_with_gradient
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.losses.augmentation import drop_modalities, random_affine, random_intensity
from meddiffusers.training.losses.diffusion import hybrid_loss, stratified_timesteps
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig


class SegmentationDiffusionLoss:
    """The loss of a segmentation U-Net.

    Args:
        pipeline: Gives the noise schedule, the labels and the mask range.
        config: Gives the number of noise samples, the weights and the augmentation.

    Raises:
        ValueError: Fewer noise samples than images for a network without an image encoder, which learns nothing from
            images without a noisy mask.
    """

    def __init__(self, pipeline: ConditionalSegmentationPipeline, config: SegmentationModelConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self.noise_scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.predicts_labels = getattr(pipeline.unet, "image_encoder", None) is not None
        if config.noise_samples < 1 and not self.predicts_labels:
            raise ValueError(
                f"noise_samples={config.noise_samples} for a network without image encoder, which learns from noisy "
                "masks alone; expected a whole number."
            )

    def __call__(self, unet: nn.Module, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """The loss and its terms.

        Args:
            unet: The network, prepared by accelerate.
            batch: "image" (B, C, H, W) in [0, 1], and "masks" (B, R, H, W), the label maps of R raters.
            random: Source of random numbers.
        """
        samples = max(1, int(self.config.noise_samples))
        image, masks = self.augment(batch, samples, random)
        num_noisy = max(1, round(min(1, self.config.noise_samples) * len(image)))  # the first images of the batch
        x0 = self._in_mask_range(masks[: num_noisy * samples])
        times = stratified_timesteps(num_noisy, samples, random)
        times = times.sqrt() if self.predicts_labels else times
        timesteps = (times * self.noise_scheduler.config["num_train_timesteps"]).long()
        noise = random.randn_like(x0)
        x_t = self.noise_scheduler.add_noise(x0, noise, timesteps)
        output = unet(x_t, timesteps, image=image)
        if output.logits is None:
            predicted, gamma = output.sample.float(), self.config.snr_gamma
            return hybrid_loss(self.noise_scheduler, predicted, x0, noise, x_t, timesteps, gamma)
        terms = {
            "denoising": label_loss(output.logits.float(), masks[: len(x0)]),
            "prior": label_loss(output.prior_logits.float(), masks, self.config.dice_weight),
        }
        return {"loss": terms["denoising"] + terms["prior"], **terms}

    def augment(self, batch: dict[str, Tensor], samples: int, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Augmented images (B, C, H, W), and for each `samples` label maps of random raters, (B·samples, H, W)."""
        image, masks = random_affine(batch["image"], batch["masks"], random)
        image = drop_modalities(random_intensity(image, random), self.config.modality_dropout, random)
        return image, _sample_raters(masks, samples, random)

    def _in_mask_range(self, labels: Tensor) -> Tensor:
        """Label maps (B, H, W) as one-hot masks (B, K, H, W) in the range of the model."""
        low, high = self.pipeline.mask_range
        count = self.pipeline.mask_channels
        one_hot = labels[:, None] if count == 1 else F.one_hot(labels.long(), count).movedim(-1, 1)
        return low + (high - low) * one_hot.float()


def label_loss(logits: Tensor, masks: Tensor, dice_weight: float = 0) -> Tensor:
    """Cross-entropy + weight · (1 − Dice).

    Dice is computed over the whole batch of all processes, and averaged over the labels except the background. In a
    single image without foreground it would jump between 0 and 1 with the first pixel that is marked.

    Args:
        logits: Logits (B, K, H, W), of a sigmoid for K = 1.
        masks: Label maps (n·B, H, W), n for each image.
        dice_weight: Weight of the Dice loss.
    """
    logits = logits.repeat_interleave(len(masks) // len(logits), dim=0)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    entropy = F.cross_entropy(logits, masks.long())
    if not dice_weight:
        return entropy
    probability = logits.softmax(dim=1)[:, 1:].flatten(2)
    one_hot = F.one_hot(masks.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2)
    own = torch.stack([(probability * one_hot).sum(dim=2), (probability + one_hot).sum(dim=2)]).sum(dim=1)
    intersection, sizes = gather_with_gradient(own[None]).sum(dim=0)  # of each label
    return entropy + dice_weight * (1 - ((2 * intersection + 1) / (sizes + 1)).mean())


def _sample_raters(masks: Tensor, samples: int, random: BatchRandom) -> Tensor:
    """From label maps (B, R, H, W), those of `samples` random raters for each image: (B·samples, H, W)."""
    batch, raters = masks.shape[:2]
    chosen = random.randint(0, raters, (batch, samples))
    return masks[torch.arange(batch, device=masks.device)[:, None], chosen].flatten(0, 1)
