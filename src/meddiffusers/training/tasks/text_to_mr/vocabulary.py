"""A tokenizer made for prompts: a token for each of their words, letters for others, and numbers digit by digit.

Of the vocabularies that are learnt of general text none knows that 1234 and 1235 are alike; with a token for each digit
a number's tokens are its decimal places. A region's name takes as many tokens as it has words.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertTokenizer

from meddiffusers.data.regions import REGIONS
from meddiffusers.models.quantity_encoder import AGE, SLICE

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = string.ascii_lowercase + string.digits


def prompt_tokenizer(texts: Iterable[str], words: int = 1000, max_tokens: int = 512) -> BertTokenizer:
    """Of texts, with their most frequent words, at most so many; the same each time."""
    normalise, split = BertNormalizer(), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
    known = sorted(counts, key=lambda word: (-counts[word], word))
    kept = [word for word in known if not any(letter.isdecimal() for letter in word)][:words]
    pieces = [piece for letter in LETTERS for piece in (letter, f"##{letter}")]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *pieces, *kept]))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_tokens)


QUANTITIES = [AGE, SLICE, *dict.fromkeys(REGIONS.values())]  # numbers that prompts speak of
