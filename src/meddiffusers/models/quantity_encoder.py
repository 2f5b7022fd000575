"""Encode the numbers of a prompt as tokens of their own, since text encoders barely tell 500 mm³ from 5000 mm³.

| symbol | here | shape |
|---|---|---|
| q | a quantity of `id2label`: "age" in years, "slice", or a region, whose volume is in mm³ | Q of them |
| x_q | `values`, ignored where `known` is false | (B, Q) |
| u_q | log(1 + x_q) / log(1 + largest), in [0, 1] | (B, Q) |
| e_q | embedding of q + MLP(u_q, sin 2ᵏπu_q, cos 2ᵏπu_q), 0 where x_q is unknown | (B, Q, W) |

A denoiser attends to these tokens and to those of the text.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn

PUBLISHED_AS = "meddiffusers_quantity_encoder_v1"  # library name in model_index.json and file name in a repository
AGE, SLICE = "age", "slice"
LARGEST = {AGE: 120.0, SLICE: 512.0}
LARGEST_VOLUME = 100_000.0  # mm³
UNITS = {AGE: " years", SLICE: ""}
SIGN = r"(?:(?<![\w.])[-−])?"  # of a number, and not of a range
NUMBER = rf"({SIGN}(?<!\d)(?<!\d[.,])\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?!\d|[.,]\d)"
YEARS = r"(?![ -]?(?:months?|weeks?|days?)\b)"
PATTERNS = {  # of each quantity, the first that is found
    AGE: (rf"(?<![\w.]){NUMBER}[ -]years?[ -]old|\baged? {NUMBER}{YEARS}", rf"\bof {NUMBER} years"),
    SLICE: (rf"\bslice (?:number )?{NUMBER}",),
}
MM3 = rf"{NUMBER} ?mm(?:³|\^?3)"
VOXEL = rf"{NUMBER} ?[×x] ?{NUMBER} ?[×x] ?{NUMBER} ?mm\b"  # no quantity, but part of a prompt
VOLUME = r" ?(?:[cm]m(?:³|\^?3)|ml|cc)"  # unit
STANDALONE = re.compile(rf"(?<![\w.])[-−]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?(?:{VOLUME})?(?!\w)", re.I)


@dataclass
class QuantityEncoderOutput(BaseOutput):
    """Output of `QuantityEncoder`.

    Args:
        tokens: Tokens (B, Q, W), 0 for unknown quantities.
    """

    tokens: Tensor


class QuantityEncoder(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Encoder of the quantities that prompts name.

    Args:
        id2label: Names of the quantities by id: "age", "slice", and regions as prompts name them.
        cross_attention_dim: W, the width of the text encoder's tokens.
        hidden_dim: Width of the perceptron's hidden layer.
        frequencies: Number of frequencies; the lowest has half a period over the range.

    Example:
        >>> encoder = QuantityEncoder(["age", "left hippocampus"])
        >>> values, known = encoder.read(["A 63-year-old patient, left hippocampus: 3500 mm³"])
        >>> encoder(values, known).tokens.shape
        torch.Size([1, 2, 768])
    """

    @register_to_config
    def __init__(
        self,
        id2label: Mapping[Any, str] | Sequence[str] = (AGE, SLICE),
        cross_attention_dim: int = 768,
        hidden_dim: int = 128,
        frequencies: int = 6,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        self.embedding = nn.Embedding(len(id2label), cross_attention_dim)
        self.perceptron = nn.Sequential(
            nn.Linear(1 + 2 * frequencies, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, cross_attention_dim)
        )

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the quantities by id."""
        names = self.config["id2label"]
        by_id = names if isinstance(names, Mapping) else dict(enumerate(names))
        return {int(label_id): name for label_id, name in by_id.items()}

    def forward(self, values: Tensor, known: Tensor, return_dict: bool = True) -> QuantityEncoderOutput | tuple[Tensor]:
        """Encode quantities as tokens.

        Args:
            values: Quantities (B, Q) in their units.
            known: Which of them are known, (B, Q) bool.
            return_dict: Return an output object rather than a tuple.

        Returns:
            A `QuantityEncoderOutput`, or a tuple of its `tokens` (B, Q, W).
        """
        u = self.normalize(values, known)
        phase = u[..., None] * math.pi * 2 ** torch.arange(self.config["frequencies"], device=u.device)
        features = torch.cat([u[..., None], phase.sin(), phase.cos()], dim=-1).to(self.dtype)
        ids = torch.arange(u.shape[1], device=u.device)
        tokens = (self.embedding(ids) + self.perceptron(features)) * known[..., None]
        return QuantityEncoderOutput(tokens=tokens) if return_dict else (tokens,)

    def normalize(self, values: Tensor, known: Tensor) -> Tensor:
        """Return u (B, Q) in [0, 1] for `values` (B, Q) in their units; 0 where they are unknown."""
        values = torch.where(known, values, 0).float()  # the largest volumes overflow half precision
        largest = values.new_tensor([LARGEST.get(name, LARGEST_VOLUME) for name in self.id2label.values()])
        return values.clamp_min(0).log1p() / largest.log1p()

    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Read quantities from texts in the wording of `meddiffusers.data.prompts`.

        Args:
            texts: B prompts.

        Returns:
            Values (B, Q) in their units, and which of them are known, (B, Q) bool.

        Raises:
            ValueError: A number that a quantity cannot have, such as an age of 630 years, or two for one quantity.
        """
        ids = {name.lower(): label_id for label_id, name in self.id2label.items()}
        values = torch.zeros(len(texts), len(ids))
        known = torch.zeros(len(texts), len(ids), dtype=torch.bool)
        for row, text in enumerate(texts):
            for name, value in self.quantities(text).items():
                values[row, ids[name.lower()]], known[row, ids[name.lower()]] = value, True
        return values, known

    def quantities(self, text: str) -> dict[str, float]:
        """Read the quantities of one text by their names, as `read` does."""
        numbers = {name: _numbers(patterns, text) for name, patterns in PATTERNS.items()}
        if region := self._region_pattern():
            for match in region.finditer(text):
                numbers.setdefault((match[1] or match[4]).lower(), []).append(match[2] or match[3])
        quantities: dict[str, float] = {}
        for name in self.id2label.values():
            values = sorted({float(number.replace("−", "-")) for number in numbers.get(name.lower(), [])})
            if len(values) > 1:
                all_of_them = " and ".join(f"{value:g}" for value in values)
                raise ValueError(
                    f"The prompt {text[:60]!r} contradicts itself: it has {name} {all_of_them}; expected one value."
                )
            lowest, largest = 1 if name == SLICE else 0, LARGEST.get(name, LARGEST_VOLUME)
            if values and not lowest <= values[0] <= largest:
                raise ValueError(
                    f"Got {name}={values[0]:g} in the prompt {text[:60]!r}; expected {lowest} to "
                    f"{largest:g}{UNITS.get(name, ' mm³')}."
                )
            if values:
                quantities[name] = values[0]
        return quantities

    def unread_numbers(self, text: str) -> list[str]:
        """Return the numbers of a text that are neither a quantity nor part of a voxel size."""
        for pattern in (*(each for patterns in PATTERNS.values() for each in patterns), VOXEL):
            text = re.sub(pattern, " ", text, flags=re.I)
        if region := self._region_pattern():
            text = region.sub(" ", text)
        return STANDALONE.findall(text)

    def _region_pattern(self) -> re.Pattern[str] | None:
        """Pattern of a region with its volume; the longest names come first."""
        names = {name.lower() for name in self.id2label.values()} - {*PATTERNS}
        if not names:
            return None
        regions = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        form = rf"({regions})(?: of volume| with| measuring|:| \(| of)? ?\(?{MM3}|{MM3} of (?:the )?({regions})"
        return re.compile(form, re.I)

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _numbers(patterns: Sequence[str], text: str) -> list[str]:
    """Numbers of the first pattern that a text has."""
    found = ([next(filter(None, match.groups())) for match in re.finditer(one, text, re.I)] for one in patterns)
    return next(filter(None, found), [])
