"""The prompt encoder: its vocabulary, what is masked, and what a short training leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.short_run import run
from helpers.small_text_to_mr import text_rows
from transformers import AutoModel, AutoTokenizer

from meddiffusers.data.prompts import write_prompt
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.training import BatchRandom
from meddiffusers.training.tasks.text_to_mr.prompt_encoder import PromptEncoderConfig, PromptEncoderTask
from meddiffusers.training.tasks.text_to_mr.vocabulary import prompt_tokenizer

SMALL: dict[str, Any] = {
    "vocabulary": 200,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def task_of(**config: Any) -> PromptEncoderTask:
    splits = {"train": text_rows(32), "test": text_rows(16, seed=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PromptEncoderTask(CaptionedDataConfig(resolution=16), PromptEncoderConfig(**{**SMALL, **config}), splits)


def test_numbers_are_read_digit_by_digit_and_words_whole() -> None:
    task = task_of(vocabulary=1000)
    text = write_prompt(task.train_dataset.facts[0], seed=3)
    tokens = task.tokenizer.tokenize(text)
    assert not any(sum(letter.isdigit() for letter in token) > 1 for token in tokens)
    assert "thalamus" in tokens and "[UNK]" not in tokens
    assert task.tokenizer.tokenize("1234 thalamus") == ["1", "##2", "##3", "##4", "thalamus"]
    assert task.tokenizer.tokenize("zebra7") and "[UNK]" not in task.tokenizer.tokenize("zebra7")


def test_a_vocabulary_is_the_same_each_time() -> None:
    texts = [write_prompt(facts, 1) for facts in task_of().train_dataset.facts]
    one, other = (prompt_tokenizer(texts, 30).get_vocab() for _ in range(2))
    assert one == other


def test_masked_are_real_tokens_and_what_stood_there_is_known() -> None:
    task = task_of()
    batch = task.collate([task.train_dataset[number] for number in range(16)])
    seen: list[torch.Tensor] = []

    def guess(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(ids)
        return torch.zeros(*ids.shape, len(task.tokenizer)), torch.zeros_like(batch["numbers"])

    modules: Any = {"model": guess}
    losses = task.loss(modules, batch, BatchRandom(0))
    changed = seen[0] != batch["input_ids"]
    assert 0.08 < changed[batch["attention_mask"].bool()].float().mean() < 0.2
    assert not changed[~batch["attention_mask"].bool()].any() and not changed[:, 0].any()
    torch.testing.assert_close(losses["words"], torch.tensor(float(len(task.tokenizer))).log())
    torch.testing.assert_close(losses["numbers"], batch["numbers"].square().mean())


@pytest.mark.slow
def test_a_short_training_leaves_an_encoder_that_transformers_opens(tmp_path: Path) -> None:
    task = task_of()
    before = task.evaluate(task.build_pipeline(task.modules))
    result = run(task, tmp_path, max_train_steps=120, train_batch_size=16)
    after = task.evaluate(result.pipeline)
    for key in ("masked_token_accuracy", "number_r2"):
        assert after.value(key) > before.value(key) + 0.15
    encoder = AutoModel.from_pretrained(tmp_path / "text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    texts = ["T1-weighted left thalamus of 512 mm³", "T2"]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    theirs = task.tokenizer(texts, padding=True, return_tensors="pt")
    assert torch.equal(tokens.input_ids, theirs.input_ids) and tokenizer.model_max_length == 512
    with torch.no_grad():
        states = [
            model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
            for model in (encoder, result.pipeline[0].eval())
        ]
    torch.testing.assert_close(*states)
