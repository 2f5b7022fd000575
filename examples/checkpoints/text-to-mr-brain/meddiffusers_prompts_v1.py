"""Encode prompts to the tokens that a denoiser attends to: those of a text encoder and of the prompt's numbers.

A mixin for text-to-image pipelines, which import it from this file beside them.

| symbol | here | shape |
|---|---|---|
| τ(y) | last hidden states of `text_encoder`, then tokens of `quantity_encoder`, if any | (B, T, W) |
| | attention mask, 1 where a token is not padding | (B, T) |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.utils import scale_lora_layers, unscale_lora_layers

from .meddiffusers_checks_v1 import check_counts, check_given_numbers, check_names
from .meddiffusers_prompt_limits_v1 import check_prompt

PUBLISHED_AS = "meddiffusers_prompts_v1"  # also its file name here, so that imports find it in both places
Tokens = tuple[torch.Tensor, torch.Tensor]  # tokens (B, T, W) and their attention mask (B, T)


class PromptEncodingMixin:
    """Comes before `DiffusionPipeline` among the bases of a pipeline with the components below."""

    text_encoder: Any  # set by register_modules
    tokenizer: Any
    unet: Any
    quantity_encoder: Any
    config: Mapping[str, Any]
    _execution_device: torch.device

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens of a prompt."""
        positions = getattr(self.text_encoder.config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, positions or self.tokenizer.model_max_length)

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None = None,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        lora_scale: float | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Encode prompts and negative prompts, for every image that is generated from them.

        Only the text encoder, its tokenizer and the quantity encoder are needed. A call of the pipeline takes the four
        results under their names.

        Args:
            prompt: One prompt or several; or give `prompt_embeds`.
            device: Device of the results; by default that of the pipeline.
            num_images_per_prompt: Number of images for each prompt, whose rows follow each other.
            do_classifier_free_guidance: Whether to encode negative prompts, too.
            negative_prompt: Prompt to guide away from, one for all prompts or one for each; by default the empty text.
            prompt_embeds: Tokens (B, T, W) instead of prompts.
            negative_prompt_embeds: Tokens of negative prompts, (1, T, W) or (B, T, W).
            prompt_attention_mask: Which of `prompt_embeds` are not padding, (B, T) of 0 and 1; by default all.
            negative_prompt_attention_mask: The same for `negative_prompt_embeds`.
            lora_scale: Factor of the effect of an adapter of the text encoder.

        Returns:
            `prompt_embeds` (B, T, W), `prompt_attention_mask` (B, T), which is 0 for padding and for quantities that a
            prompt lacks, `negative_prompt_embeds` and `negative_prompt_attention_mask`; None without guidance.

        Raises:
            ValueError: No prompt or one of another type; a prompt with too many tokens, or unlike those of the training
                (see `meddiffusers_prompt_limits_v1`); tensors of wrong shapes.
        """
        check_counts(num_images_per_prompt=num_images_per_prompt)
        check_given_numbers(lora_scale=lora_scale)
        with _lora_scale(self.text_encoder, lora_scale):
            tokens = [self._tokens_of("prompt", prompt, prompt_embeds, prompt_attention_mask)]
            if do_classifier_free_guidance:
                if negative_prompt is None and negative_prompt_embeds is None:
                    negative_prompt = ""
                mask = negative_prompt_attention_mask
                negative = self._tokens_of("negative_prompt", negative_prompt, negative_prompt_embeds, mask)
                tokens.append(_one_for_each(negative, len(tokens[0][0])))
        padded = [tuple(each.to(device or self._execution_device) for each in pair) for pair in _of_one_length(tokens)]
        rows = [part.repeat_interleave(num_images_per_prompt, dim=0) for pair in padded for part in pair]
        prompt_embeds, prompt_attention_mask = rows[:2]
        negative_prompt_embeds, negative_prompt_attention_mask = rows[2:] or (None, None)
        return prompt_embeds, prompt_attention_mask, negative_prompt_embeds, negative_prompt_attention_mask

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tokens:
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
        return (states * mask[..., None]).to((self.unet or self.text_encoder).dtype), mask

    def _tokens_of(self, name: str, prompt: Any, embeds: torch.Tensor | None, mask: torch.Tensor | None) -> Tokens:
        """Tokens of the prompts called `name`, or those that are given, and their attention mask."""
        if (prompt is None) == (embeds is None):
            raise ValueError(f"Expected either a {name} or {name}_embeds.")
        if embeds is None and mask is not None:
            raise ValueError(f"Got an attention mask without {name}_embeds, whose tokens it is for; expected both.")
        if embeds is not None:
            return self._check_embeds(f"{name}_embeds", embeds, mask)
        texts = check_names(name, prompt) or []
        if self.text_encoder is None or self.tokenizer is None:
            raise ValueError(
                f"This pipeline has no text encoder and tokenizer to encode {name}. Load it with them, or give "
                f"{name}_embeds and {name}_attention_mask from encode_prompt of one that has them."
            )
        self._check_limits(texts, negative=name != "prompt")
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Tokens:
        embeds, mask = self.encode_text(texts)
        if self.quantity_encoder is None:
            return embeds, mask
        values, known = (part.to(embeds.device) for part in self.quantity_encoder.read(texts))
        numbers = self.quantity_encoder(values, known).tokens.to(embeds.dtype)
        return torch.cat([embeds, numbers], dim=1), torch.cat([mask, known.to(mask.dtype)], dim=1)

    def _check_limits(self, texts: Sequence[str], negative: bool) -> None:
        """Refuse or warn of prompts that are unlike those of the training, if the pipeline knows them."""
        numbers = self.quantity_encoder
        adapted = any(getattr(part, "peft_config", None) for part in (self.unet, self.text_encoder))
        for text in texts:
            quantities = numbers.quantities(text) if numbers is not None else {}
            limits = self.config.get("prompt_limits")
            if limits and (text or not negative):
                unread = numbers.unread_numbers(text) if numbers is not None else []
                check_prompt(text, limits, quantities, unread, negative, adapted)

    def _check_embeds(self, name: str, embeds: torch.Tensor, mask: torch.Tensor | None) -> Tokens:
        for given in (embeds, *(() if mask is None else (mask,))):
            if not isinstance(given, torch.Tensor):
                raise ValueError(f"Got {name} or their attention mask as a {type(given).__name__}; expected tensors.")
        width = self.unet.config["cross_attention_dim"] if self.unet is not None else embeds.shape[-1]
        if (
            not embeds.is_floating_point()
            or embeds.ndim != 3
            or embeds.shape[-1] != width
            or not len(embeds)
            or not torch.isfinite(embeds).all()
        ):
            raise ValueError(
                f"Got {name} of shape {tuple(embeds.shape)}; expected finite tokens (B, T, {width}), as encode_prompt "
                "returns them."
            )
        mask = torch.ones(embeds.shape[:2], dtype=torch.long) if mask is None else mask
        if mask.shape != embeds.shape[:2]:
            raise ValueError(
                f"Got an attention mask of shape {tuple(mask.shape)} for {name}; expected {tuple(embeds.shape[:2])}."
            )
        dtype = embeds.dtype if self.unet is None else self.unet.dtype
        return embeds.to(self._execution_device, dtype), mask.to(self._execution_device)


def _one_for_each(tokens: Tokens, count: int) -> Tokens:
    """Repeat the tokens of one negative prompt for all prompts."""
    if len(tokens[0]) not in (1, count):
        raise ValueError(f"Got {len(tokens[0])} negative prompts for {count} prompts. Give one, or one for each.")
    return tokens[0].expand(count, -1, -1), tokens[1].expand(count, -1)


def _of_one_length(tokens: Sequence[Tokens]) -> list[Tokens]:
    """Pad tokens and attention masks with 0 to the number of tokens of the longest."""
    longest = max(embeds.shape[1] for embeds, _ in tokens)
    padding = [longest - embeds.shape[1] for embeds, _ in tokens]
    return [
        (F.pad(embeds, (0, 0, 0, missing)), F.pad(mask, (0, missing)))
        for (embeds, mask), missing in zip(tokens, padding, strict=True)
    ]


@contextmanager
def _lora_scale(text_encoder: Any, scale: float | None) -> Iterator[None]:
    """Scale the adapters of the text encoder, if there are any, for a while."""
    if text_encoder is None or scale is None:
        yield
        return
    scale_lora_layers(text_encoder, scale)
    try:
        yield
    finally:
        unscale_lora_layers(text_encoder, scale)
