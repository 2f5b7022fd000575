"""Training task of a small BERT that encodes prompts.

Loss = cross-entropy of masked tokens (Devlin et al. 2019) + w · squared error of the prompt's numbers, which are
predicted from its first token: age, slice number and volumes in the units of `QuantityEncoder`, 0 where the prompt does
not mention them. Masked tokens teach the language of prompts, and numbers what they mean.
"""

from __future__ import annotations

import random as global_random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer

from meddiffusers.data.prompts import sample_facts, write_prompt
from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
from meddiffusers.datasets.captioned_slices import facts_of
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.models.quantity_encoder import QuantityEncoder
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.tasks.text_to_mr.vocabulary import QUANTITIES, prompt_tokenizer
from meddiffusers.utils.seeds import sample_seed
from meddiffusers.utils.settings import Range, check_fields, setting

MASKED, KEPT, REPLACED = 0.15, 0.1, 0.1  # fraction of the tokens; fractions of these that are kept, or replaced
IGNORED = -100  # target that the cross-entropy ignores
NUM_EVALUATED, BATCH = 512, 64
NAMES = {"masked_token_accuracy": "Masked tokens, accuracy", "number_r2": "Numbers, explained variance (R²)"}


@dataclass
class PromptEncoderConfig:
    """Settings of the encoder and of the loss."""

    vocabulary: int = setting(1000, "Maximum number of words in the vocabulary, beside letters and digits.")
    max_tokens: int = setting(512, "Maximum number of tokens of a prompt.")
    hidden_size: int = setting(128, "Number of features of a token.")
    num_hidden_layers: int = setting(4, "Number of layers.")
    num_attention_heads: int = setting(4, "Number of attention heads in each layer.")
    intermediate_size: int = setting(512, "Number of features in the feed-forward part of a layer.")
    number_weight: float = setting(10.0, "Weight w of the squared error of the numbers.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)


_COUNT = Range(1)
_RANGES = {
    "vocabulary": _COUNT,
    "max_tokens": _COUNT,
    "hidden_size": _COUNT,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
    "intermediate_size": _COUNT,
    "number_weight": Range(0),
}


class Prompts:
    """A map-style data set of prompts: each access writes a new prompt from the facts of a row."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self.facts = [facts_of(row) for row in rows.select_columns(["facts"])]

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, index: int) -> str:
        seed = global_random.getrandbits(31)  # seeded by the engine
        return write_prompt(sample_facts(self.facts[index], seed), seed)


class PromptModel(nn.Module):
    """The encoder with its two training heads."""

    def __init__(self, config: BertConfig, quantities: int) -> None:
        super().__init__()
        self.language = BertForMaskedLM(config)
        self.numbers = nn.Linear(config.hidden_size, quantities)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the tokens, (B, T, V), and predicted numbers, (B, Q)."""
        states = self.language.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.language.cls(states), self.numbers(states[:, 0])


class PromptEncoderTask:
    """Trains tokenizer and encoder on prompts that are written from the facts of slices.

    Args:
        data: Settings of the data set.
        config: Settings of the encoder.
        splits: The splits "train" and "test", if they are loaded already.
    """

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: PromptEncoderConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        splits = splits or load_captioned_data(data)
        self.train_dataset, self.test_dataset = (Prompts(splits[name]) for name in ("train", "test"))
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        texts = (write_prompt(facts, seed) for seed, facts in enumerate(self.train_dataset.facts))
        self.tokenizer = prompt_tokenizer(texts, config.vocabulary, config.max_tokens)
        self.quantities = QuantityEncoder(QUANTITIES, cross_attention_dim=1, hidden_dim=1)  # only reads and scales
        bert = BertConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_tokens,
            hidden_dropout_prob=0.0,  # no prompt is repeated
            attention_probs_dropout_prob=0.0,
        )
        self.model = PromptModel(bert, len(QUANTITIES))

    @property
    def modules(self) -> Mapping[str, Any]:
        """The encoder with its training heads."""
        return {"model": self.model}

    def collate(self, items: list[str]) -> dict[str, Tensor]:
        """Token ids (B, T), attention mask (B, T) and scaled numbers (B, Q)."""
        tokens = self.tokenizer(items, padding=True, truncation=True, return_tensors="pt")
        return {
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
            "numbers": self.quantities.normalize(*self.quantities.read(items)),
        }

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The weighted sum of the terms, and each term without its weight."""
        ids, target = _mask_tokens(batch["input_ids"], batch["attention_mask"], self.tokenizer, random)
        logits, numbers = modules["model"](ids, batch["attention_mask"])
        words = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), ignore_index=IGNORED)
        squared = (numbers.float() - batch["numbers"]).square().mean()
        return {"loss": words + self.config.number_weight * squared, "words": words, "numbers": squared}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Accuracy of masked tokens and explained variance of the numbers, on test prompts."""
        return Validation(_metrics(self, modules["model"], seed=0))

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> tuple[BertModel, BertTokenizer]:
        """The encoder and its tokenizer."""
        trained: Any = modules["model"]
        encoder = BertModel(trained.language.config)  # with an unused pooler, which diffusers expects
        encoder.load_state_dict(trained.language.bert.state_dict(), strict=False)
        return encoder.eval(), self.tokenizer

    def save(self, pipeline: tuple[BertModel, BertTokenizer], folder: Path) -> None:
        """Save both into the subfolders text_encoder and tokenizer."""
        for part, name in zip(pipeline, ("text_encoder", "tokenizer"), strict=True):
            part.save_pretrained(folder / name)

    def evaluate(self, pipeline: tuple[BertModel, BertTokenizer], seed: int = 0) -> Report:
        """The metrics of the validation."""
        count = min(NUM_EVALUATED, len(self.test_dataset))
        dataset = f"{self.dataset_name}, test subjects"
        metrics = [
            Metric.single(key, NAMES[key], value, dataset, count)
            for key, value in _metrics(self, self.model, seed).items()
        ]
        return Report(metrics, run_facts(seed))


@torch.no_grad()
def _metrics(task: PromptEncoderTask, model: nn.Module, seed: int) -> dict[str, float]:
    count = min(NUM_EVALUATED, len(task.test_dataset))
    texts = [write_prompt(task.test_dataset.facts[index], seed=sample_seed(seed, index)) for index in range(count)]
    right, masked, squared, numbers = 0, 0, [], []
    for first in range(0, count, BATCH):
        batch = task.collate(texts[first : first + BATCH])
        random = BatchRandom(sample_seed(seed, first))
        ids, target = _mask_tokens(batch["input_ids"], batch["attention_mask"], task.tokenizer, random)
        device = next(model.parameters()).device
        logits, predicted = model(ids.to(device), batch["attention_mask"].to(device))
        chosen = target != IGNORED
        right += int((logits.argmax(dim=-1).cpu() == target)[chosen].sum())
        masked += int(chosen.sum())
        squared.append((predicted.cpu() - batch["numbers"]).square())
        numbers.append(batch["numbers"])
    variance = torch.cat(numbers).var(dim=0, correction=0).sum()
    return {
        "masked_token_accuracy": right / max(masked, 1),
        "number_r2": float(1 - torch.cat(squared).mean(dim=0).sum() / variance),
    }


def _mask_tokens(ids: Tensor, real: Tensor, tokenizer: BertTokenizer, random: BatchRandom) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) with some of them masked, and the targets there, `IGNORED` elsewhere."""
    selection, fate = random.rand(*ids.shape).to(ids.device), random.rand(*ids.shape).to(ids.device)
    special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
    chosen = (selection < MASKED) & real.bool() & ~torch.isin(ids, special)
    replacement = random.randint(0, len(tokenizer), ids.shape).to(ids.device)
    masked = torch.where(chosen & (fate < 1 - KEPT), tokenizer.mask_token_id, ids)
    masked = torch.where(chosen & (fate < REPLACED), replacement, masked)
    return masked, torch.where(chosen, ids, IGNORED)
