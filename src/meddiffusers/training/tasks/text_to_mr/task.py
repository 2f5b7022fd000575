"""Training task of a text-to-MR latent diffusion model.

Images and prompts are encoded once, before the first step. If an adapter of the text encoder is trained too, prompts
are encoded at each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts, prompts_of, real_images, targets_of
from meddiffusers.pipelines.meddiffusers_latents_v1 import normalize_latents
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.diffusion import denoising_loss
from meddiffusers.training.tasks.text_to_mr.cache import cached_text
from meddiffusers.training.tasks.text_to_mr.limits import prompt_limits
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig, build_text_to_mr_pipeline
from meddiffusers.training.tasks.unets import add_adapter, round_to_fp16

NUM_FIGURE, NUM_EVALUATED = 8, 256


class TextToMRTask:
    """Trains a `TextToMRPipeline`, or a LoRA adapter of one.

    Args:
        data: Settings of the data set.
        config: Settings of the parts, of the denoiser and of its loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: As `build_text_to_mr_pipeline` and `load_captioned_data`; a prompt that is too long.
    """

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: TextToMRConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.pipeline = build_text_to_mr_pipeline(data, config)
        self.pipeline.to(PartialState().device)  # the engine moves only what is trained
        self.pipeline.set_progress_bar_config(disable=True)
        self.splits = splits or load_captioned_data(data)
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        self.train_dataset = cached_text(self.splits["train"], self.pipeline, config.captions_per_image)
        limits = prompt_limits(targets_of(self.splits["train"]), self.train_dataset.prompts)
        self.pipeline.register_to_config(prompt_limits=limits)
        self.empty = self.pipeline.encode_text([""])[0][0].float()
        self.empty_ids = self.pipeline.tokenizer("", return_tensors="pt").input_ids[0]
        flow = config.prediction_type == "flow"
        self.noise_scheduler = None if flow else DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self._choose_weights()

    @property
    def modules(self) -> Mapping[str, Any]:
        """The trained parts: denoiser and quantity encoder, or those with an adapter."""
        names = ["unet"]
        if self.config.text_encoder_rank:
            names.append("text_encoder")
        if self.pipeline.quantity_encoder is not None and not self.adapts:
            names.append("quantity_encoder")
        return {name: getattr(self.pipeline, name) for name in names}

    @property
    def adapts(self) -> bool:
        """Whether only an adapter is trained."""
        return self.config.rank is not None

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Moments (B, 2c, h, w), numbers (B, Q), tokens (B, T, W) or token ids (B, T), and the mask (B, T)."""
        batch = {name: torch.stack([item[name] for item in items]) for name in ("moments", "values")}
        if self.config.text_encoder_rank:
            encoded = self.pipeline.tokenizer([item["prompt"] for item in items], padding=True, return_tensors="pt")
            return batch | {"input_ids": encoded.input_ids, "mask": encoded.attention_mask}
        tokens = [item["tokens"] for item in items]
        mask = pad_sequence([torch.ones(len(each), dtype=torch.long) for each in tokens], batch_first=True)
        return batch | {"tokens": pad_sequence(tokens, batch_first=True), "mask": mask}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The squared error at random times, with some prompts dropped."""
        mean, log_variance = batch["moments"].chunk(2, dim=1)
        deviation = (0.5 * log_variance.clamp(-30, 20)).exp()
        x0 = normalize_latents(self.pipeline.vae, mean + deviation * random.randn_like(mean))

        def predict(x_t: Tensor, times: Tensor) -> Tensor:
            tokens, mask = self._conditions(modules, batch, random)
            output = modules["unet"](x_t, times, encoder_hidden_states=tokens, encoder_attention_mask=mask)
            return output.sample.float()

        return denoising_loss(self.noise_scheduler, predict, x0, random, self.config.snr_gamma)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """A figure of test images, and of images generated from their prompts and the same noise each time."""
        rows = self.splits["test"].select(range(min(NUM_FIGURE, len(self.splits["test"]))))
        images = generate_from_prompts(self._with_modules(modules), prompts_of(self.pipeline, targets_of(rows)))
        panels = {"generated": images, "held-out": real_images(rows)}
        return Validation({}, {"generated": panel(panels, ranges=dict.fromkeys(panels, (0.0, 1.0)))})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> TextToMRPipeline:
        """The pipeline with the trained parts, rounded to half precision if they are saved so."""
        if self.config.save_in_fp16:
            for module in modules.values():
                round_to_fp16(module)
        return self._with_modules(modules)

    def save(self, pipeline: TextToMRPipeline, folder: Path) -> None:
        """Save the whole pipeline, or only the adapter if one was trained."""
        if not self.adapts:
            pipeline.save_pretrained(folder)
            return
        layers: dict[str, Any] = {}
        for name in self.modules:
            part = getattr(pipeline, name)
            weights = get_peft_model_state_dict(part, adapter_name="default")
            layers[f"{name}_lora_layers"] = {key: tensor.to(torch.float16) for key, tensor in weights.items()}
            layers[f"{name}_lora_adapter_metadata"] = part.peft_config["default"].to_dict()
        pipeline.save_lora_weights(folder, **layers)

    def evaluate(self, pipeline: TextToMRPipeline, seed: int = 0) -> Report:
        """Fidelity and memorization of images that are generated from held-out prompts."""
        rows = self.splits["test"].select(range(min(NUM_EVALUATED, len(self.splits["test"]))))
        images, real = generate_from_prompts(pipeline, prompts_of(pipeline, targets_of(rows)), seed), real_images(rows)
        train = real_images(self.splits["train"])
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images[:, None], real[:, None], train[:, None], ["MR"], dataset=dataset, seed=seed)

    def _choose_weights(self) -> None:
        """Freeze what is not trained: the autoencoder, and the text encoder except an adapter."""
        fixed = [self.pipeline.vae, self.pipeline.text_encoder]
        if self.adapts and self.pipeline.quantity_encoder is not None:
            fixed.append(self.pipeline.quantity_encoder)
        for part in fixed:
            part.requires_grad_(False)
        if self.config.rank:
            add_adapter(self.pipeline.unet, self.config.rank, self.config.lora_alpha)
        if self.config.text_encoder_rank:
            alpha = self.config.lora_alpha or self.config.text_encoder_rank
            self.pipeline.text_encoder.add_adapter(
                LoraConfig(r=self.config.text_encoder_rank, lora_alpha=alpha, target_modules="all-linear")
            )

    def _conditions(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> tuple[Tensor, Tensor]:
        """Tokens of text and numbers, (B, T, W), and their mask (B, T); some without numbers, some of an empty text."""
        mask, values = batch["mask"], batch["values"]
        dropped = (random.rand(len(mask)) < self.config.prompt_dropout).to(mask.device)
        if "input_ids" in batch:  # an adapter changes the encoding of the empty text, too
            ids, mask = _replace_rows(batch["input_ids"], mask, self.empty_ids, dropped)
            tokens = modules["text_encoder"](ids, attention_mask=mask).last_hidden_state
        else:
            tokens, mask = _replace_rows(batch["tokens"], mask, self.empty, dropped)
        if self.pipeline.quantity_encoder is None:
            return tokens, mask
        without_numbers = (random.rand(len(mask)) < self.config.prompt_dropout).to(mask.device)
        known = ~values.isnan() & ~(dropped | without_numbers)[:, None]
        encoder = modules.get("quantity_encoder", self.pipeline.quantity_encoder)
        numbers = encoder(values.nan_to_num(), known).tokens
        return torch.cat([tokens, numbers.to(tokens)], dim=1), torch.cat([mask, known.to(mask.dtype)], dim=1)

    def _with_modules(self, modules: Mapping[str, nn.Module]) -> TextToMRPipeline:
        pipeline = TextToMRPipeline.from_pipe(self.pipeline, **modules)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _replace_rows(rows: Tensor, mask: Tensor, by: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T, …) and their masks (B, T), replaced by a shorter row (t, …) `where` (B,) is true."""
    padded = torch.zeros_like(rows[0])
    padded[: len(by)] = by.to(padded)
    real = (torch.arange(mask.shape[1], device=mask.device) < len(by)).to(mask.dtype)
    return torch.where(where.view(-1, *(1,) * (rows.ndim - 1)), padded, rows), torch.where(where[:, None], real, mask)
