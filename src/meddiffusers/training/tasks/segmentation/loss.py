"""The loss of a conditional segmentation diffusion model.

A image b has masks of one or more raters. In each of `noise_draws` draws (a part of 1: for that part of the
images) a rater's mask x_0 (one-hot, in `mask_range`), a time t and noise ε are drawn, and the network D(x_t, t, b) is
to predict ε, x_0 or v (`prediction_type`). Each draw has another rater's mask, so samples come to differ as raters do.

- A network that predicts numbers learns by the squared error, weighted by min-SNR if wanted; with
  `variance_type: learned_range` the variational bound trains the variance too, as in Wolleb et al. 2022.
- A network with an image encoder predicts labels, of which x_0 is the expectation. It learns by cross-entropy, whose
  best answer is the same E[x_0 | x_t, b]; the image encoder's own prior logits by cross-entropy and, with `dice_weight`, Dice,
  which would make samples too much alike. Times are drawn with a density ∝ t: at small t the mask is plain to see, and
  there is little to learn.

Sequences are left out at random, so that a missing one is an input like any other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline
from meddiffusers.training.engine.distributed import gather_with_gradient
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.losses.augmentation import drop_modalities, moved, random_intensity
from meddiffusers.training.losses.diffusion import hybrid_loss, stratified_timesteps
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig


class SegmentationDiffusionLoss:
    """The loss of networks like the unet of `pipeline`, whose scheduler, labels and mask range it takes.

    Raises:
        ValueError: noise for a part of the images only, where nothing is learnt from the others.
    """

    def __init__(self, pipeline: ConditionalSegmentationPipeline, config: SegmentationModelConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self.noise = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.predicts_labels = getattr(pipeline.unet, "image_encoder", None) is not None
        if config.noise_draws < 1 and not self.predicts_labels:
            raise ValueError(
                f"noise_draws={config.noise_draws} for a network without image encoder, which learns from noisy masks "
                "alone; expected a whole number."
            )

    def __call__(self, unet: nn.Module, batch: dict[str, Tensor], random: BatchRandom) -> dict[str, Tensor]:
        """The loss and its terms.

        batch: image (B, C, H, W) in [0, 1], masks (B, R, H, W) label ids of R raters.
        """
        draws = max(1, int(self.config.noise_draws))
        image, masks = self.augmented(batch, draws, random)
        noised = max(1, round(min(1, self.config.noise_draws) * len(image)))  # images, the first ones
        x0 = self._in_range(masks[: noised * draws])
        times = stratified_timesteps(noised, draws, random)
        times = times.sqrt() if self.predicts_labels else times
        timesteps = (times * self.noise.config.num_train_timesteps).long()
        noise = random.randn_like(x0)
        x_t = self.noise.add_noise(x0, noise, timesteps)
        output = unet(x_t, timesteps, image=image)
        if output.logits is None:
            return hybrid_loss(self.noise, output.sample.float(), x0, noise, x_t, timesteps, self.config.snr_gamma)
        terms = {
            "denoising": label_loss(output.logits.float(), masks[: len(x0)]),
            "prior": label_loss(output.prior_logits.float(), masks, self.config.dice_weight),
        }
        return {"loss": terms["denoising"] + terms["prior"], **terms}

    def augmented(self, batch: dict[str, Tensor], draws: int, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Changed images (B, C, H, W), and label ids (B·draws, H, W) of a rater drawn anew for each draw."""
        image, masks = moved(batch["image"], batch["masks"], random)
        image = drop_modalities(random_intensity(image, random), self.config.modality_dropout, random)
        return image, _one_rater_a_draw(masks, draws, random)

    def _in_range(self, labels: Tensor) -> Tensor:
        """Label ids (B, H, W) as masks (B, K, H, W) of the values that the model takes for 0 and 1."""
        low, high = self.pipeline.mask_range
        count = self.pipeline.mask_channels
        hot = labels[:, None] if count == 1 else F.one_hot(labels.long(), count).movedim(-1, 1)
        return low + (high - low) * hot.float()


def label_loss(logits: Tensor, masks: Tensor, dice_weight: float = 0) -> Tensor:
    """Cross-entropy + weight · (1 − Dice) of logits (B, K, H, W), sigmoid for K = 1, to label ids (n·B, H, W).

    Dice is that of the whole batch, of all processes, mean over the labels but 0: of a single image without
    foreground it would leap between 0 and 1 with the first pixel that is marked.
    """
    logits = logits.repeat_interleave(len(masks) // len(logits), dim=0)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    entropy = F.cross_entropy(logits, masks.long())
    if not dice_weight:
        return entropy
    probability = logits.softmax(dim=1)[:, 1:].flatten(2)
    hot = F.one_hot(masks.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2)
    own = torch.stack([(probability * hot).sum(dim=2), (probability + hot).sum(dim=2)]).sum(dim=1)  # (2, labels)
    common, sizes = gather_with_gradient(own[None]).sum(dim=0)
    return entropy + dice_weight * (1 - ((2 * common + 1) / (sizes + 1)).mean())


def _one_rater_a_draw(masks: Tensor, draws: int, random: BatchRandom) -> Tensor:
    """Of the raters' label maps (B, R, H, W) one, at random, for each draw: (B·draws, H, W)."""
    batch, raters = masks.shape[:2]
    chosen = random.randint(0, raters, (batch, draws))
    return masks[torch.arange(batch, device=masks.device)[:, None], chosen].flatten(0, 1)
