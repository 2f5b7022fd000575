"""Encode prompts to the tokens that a denoiser attends to: those of a text encoder and of the prompt's numbers.

A mixin for text-to-image pipelines, which import it from this file beside them.

| symbol | here | shape |
|---|---|---|
| τ(y) | last hidden states of `text_encoder`, then tokens of `quantity_encoder`, if any | (B, T, W) |
| | attention mask, 1 where a token is not padding | (B, T) |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

PUBLISHED_AS = "meddiffusers_prompts_v1"  # also its file name here, so that imports find it in both places


class PromptEncodingMixin:
    """Comes before `DiffusionPipeline` among the bases of a pipeline with the components below."""

    text_encoder: Any  # set by register_modules
    tokenizer: Any
    unet: Any
    quantity_encoder: Any
    _execution_device: torch.device

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens of a prompt."""
        positions = getattr(self.text_encoder.config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts to the tokens that the U-Net attends to, those of the text and of its numbers.

        Args:
            prompts: B prompts.

        Returns:
            Tokens (B, T, W), and their attention mask (B, T), 0 for padding and for quantities that a prompt lacks.

        Raises:
            ValueError: A prompt with too many tokens.
        """
        embeds, mask = self.encode_text(prompts)
        if self.quantity_encoder is not None:
            values, known = (part.to(embeds.device) for part in self.quantity_encoder.read(prompts))
            embeds = torch.cat([embeds, self.quantity_encoder(values, known).tokens.to(embeds.dtype)], dim=1)
            mask = torch.cat([mask, known.to(mask.dtype)], dim=1)
        return embeds, mask

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts with the text encoder alone.

        Args:
            prompts: B prompts.

        Returns:
            Tokens (B, T, W), 0 where they are padding, and their attention mask (B, T).

        Raises:
            ValueError: A prompt with more tokens than `max_tokens`.
        """
        tokens = self.tokenizer(list(prompts), padding=True, return_tensors="pt", verbose=False)
        mask, device = tokens.attention_mask, self._execution_device
        for i, length in enumerate(mask.sum(dim=1).tolist()):
            if length > self.max_tokens:
                raise ValueError(
                    f"Prompt {i} has {length} tokens; the text encoder takes {self.max_tokens}. Name fewer regions: "
                    f"meddiffusers.data.prompts.write_prompt_within leaves out the smallest. It begins with "
                    f"{prompts[i][:60]!r}."
                )
        mask = mask.to(device)
        states = self.text_encoder(tokens.input_ids.to(device), attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).to(self.unet.dtype), mask

    def _encode_conditions(
        self,
        prompt: str | Sequence[str] | None,
        negative: str | Sequence[str] | None,
        embeds: torch.Tensor | None,
        mask: torch.Tensor | None,
        copies: int,
        guided: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and attention mask for every image; with guidance, those of the negative prompts come first."""
        if (prompt is None) == (embeds is None):
            raise ValueError("Expected either a prompt or prompt_embeds.")
        if embeds is None:
            embeds, mask = self.encode_prompt(_texts(prompt))
        elif mask is None:
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        parts = [(embeds, mask)]
        if guided:
            texts = _texts(negative or "")
            if len(texts) not in (1, len(embeds)):
                raise ValueError(
                    f"Got {len(texts)} negative prompts for {len(embeds)} prompts. Give one, or one for each."
                )
            negative_embeds, negative_mask = self.encode_prompt(texts)
            parts.insert(0, (negative_embeds.expand(len(embeds), -1, -1), negative_mask.expand(len(embeds), -1)))
        longest = max(part.shape[1] for part, _ in parts)
        padded = [
            (F.pad(part, (0, 0, 0, longest - part.shape[1])), F.pad(real, (0, longest - real.shape[1])))
            for part, real in (
                (e.to(self._execution_device, self.unet.dtype), m.to(self._execution_device)) for e, m in parts
            )
        ]
        tokens, masks = (
            torch.cat([each.repeat_interleave(copies, dim=0) for each in one]) for one in zip(*padded, strict=True)
        )
        return tokens, masks


def _texts(prompt: str | Sequence[str] | None) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt or ())
