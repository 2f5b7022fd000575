"""The learning problem of a text-to-MR latent diffusion model, for the engine: model, data, validation.

Images and prompts are encoded once, before the first step. Where an adapter also changes the text encoder, prompts
are encoded at each step instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from diffusers import DDPMScheduler
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
from meddiffusers.training.tasks.text_to_mr.cache import cached
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig, first_pipeline
from meddiffusers.training.tasks.unets import add_adapter, round_to_half

SHOWN, EVALUATED = 8, 256


class TextToMRTask:
    """Builds the model and its data, unless these are given as `splits`.

    Raises:
        ValueError: as `first_pipeline` and `load_captioned_data` do, and for a prompt that is too long.
    """

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: TextToMRConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.pipeline = first_pipeline(data, config)
        self.pipeline.to(PartialState().device)  # where the engine takes what is trained; the fixed parts go along
        self.pipeline.set_progress_bar_config(disable=True)
        self.splits = splits or load_captioned_data(data)
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business
        self.train_dataset = cached(self.splits["train"], self.pipeline, config.captions_per_image)
        self.empty = self.pipeline.encode_text([""])[0][0].float()
        self.empty_ids = self.pipeline.tokenizer("", return_tensors="pt").input_ids[0]
        flow = config.prediction_type == "flow"
        self.noise = None if flow else DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self._choose_weights()

    @property
    def modules(self) -> Mapping[str, Any]:
        """Denoiser and quantity encoder, or what an adapter is trained of."""
        names = ["unet"]
        if self.config.text_encoder_rank:
            names.append("text_encoder")
        if self.pipeline.quantity_encoder is not None and not self.adapts:
            names.append("quantity_encoder")
        return {name: getattr(self.pipeline, name) for name in names}

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained, and nothing else."""
        return self.config.rank is not None

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Moments (B, 2c, h, w), numbers (B, Q), tokens (B, T, W) or their ids (B, T), and which are real (B, T)."""
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
        """The squared error of what the network predicts of noisy latents and, but for some of them, their prompts."""
        mean, log_variance = batch["moments"].chunk(2, dim=1)
        deviation = (0.5 * log_variance.clamp(-30, 20)).exp()
        x0 = normalize_latents(self.pipeline.vae, mean + deviation * random.randn_like(mean))

        def predicted(x: Tensor, times: Tensor) -> Tensor:
            return self._predicted(modules["unet"], x, times, *self._told(modules, batch, random))

        return denoising_loss(self.noise, predicted, x0, random, self.config.snr_gamma)

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Images of test prompts beside those that the prompts were written of, the same noise each time."""
        rows = self.splits["test"].select(range(min(SHOWN, len(self.splits["test"]))))
        images = generate_from_prompts(self._with(modules), prompts_of(self.pipeline, targets_of(rows)))
        shown = {"of the prompt": images, "the prompt is of": real_images(rows)}
        return Validation({}, {"drawn": panel(shown, ranges=dict.fromkeys(shown, (0.0, 1.0)))})

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> TextToMRPipeline:
        """The pipeline around what was trained, whose weights are rounded if they are to be stored so."""
        if self.config.save_in_fp16:
            for module in modules.values():
                round_to_half(module)
        return self._with(modules)

    def save(self, pipeline: TextToMRPipeline, folder: Path) -> None:
        """The whole pipeline, or the adapter alone where one was trained."""
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
        """How like held-out images those of held-out prompts are, and whether any is a training image."""
        rows = self.splits["test"].select(range(min(EVALUATED, len(self.splits["test"]))))
        images, real = generate_from_prompts(pipeline, prompts_of(pipeline, targets_of(rows)), seed), real_images(rows)
        known = real_images(self.splits["train"])
        dataset = f"{self.dataset_name}, test subjects"
        return evaluate_generation(images[:, None], real[:, None], known[:, None], ["MR"], dataset=dataset, seed=seed)

    def _choose_weights(self) -> None:
        """What is trained: nothing of the autoencoder, and of the text encoder at most an adapter."""
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

    def _told(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, W) of text and numbers, and which are real; of some images those of the text or of none."""
        mask, values = batch["mask"], batch["values"]
        left_out = (random.rand(len(mask)) < self.config.prompt_dropout).to(mask.device)
        if "input_ids" in batch:  # an adapter changes what the empty text becomes, too
            ids, mask = _replaced(batch["input_ids"], mask, self.empty_ids, left_out)
            tokens = modules["text_encoder"](ids, attention_mask=mask).last_hidden_state
        else:
            tokens, mask = _replaced(batch["tokens"], mask, self.empty, left_out)
        if self.pipeline.quantity_encoder is None:
            return tokens, mask
        alone = (random.rand(len(mask)) < self.config.prompt_dropout).to(
            mask.device
        )  # text whose numbers are but words
        known = ~values.isnan() & ~(left_out | alone)[:, None]
        encoder = modules.get("quantity_encoder", self.pipeline.quantity_encoder)
        numbers = encoder(values.nan_to_num(), known).tokens
        return torch.cat([tokens, numbers.to(tokens)], dim=1), torch.cat([mask, known.to(mask.dtype)], dim=1)

    def _predicted(self, unet: nn.Module, x: Tensor, timesteps: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return unet(x, timesteps, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample.float()

    def _with(self, modules: Mapping[str, nn.Module]) -> TextToMRPipeline:
        pipeline = TextToMRPipeline.from_pipe(self.pipeline, **modules)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _replaced(rows: Tensor, mask: Tensor, by: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T, …) and which of their places are real (B, T), those `where` (B,) replaced by the shorter (t, …)."""
    padded = torch.zeros_like(rows[0])
    padded[: len(by)] = by.to(padded)
    real = (torch.arange(mask.shape[1], device=mask.device) < len(by)).to(mask.dtype)
    return torch.where(where.view(-1, *(1,) * (rows.ndim - 1)), padded, rows), torch.where(where[:, None], real, mask)
