"""A tokenizer for prompts: one token for each frequent word, letters for other words, digits for numbers.

Vocabularies that are learnt from general text do not represent 1234 and 1235 similarly. With a token for each digit,
the tokens of a number are its decimal places. The name of a region has as many tokens as words.
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
    """Build a tokenizer from texts; the result is deterministic.

    Args:
        texts: Prompts.
        words: Maximum number of words, of which the most frequent are kept.
        max_tokens: Maximum number of tokens of a prompt.
    """
    normalise, split = BertNormalizer(), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
    known = sorted(counts, key=lambda word: (-counts[word], word))
    kept = [word for word in known if not any(letter.isdecimal() for letter in word)][:words]
    pieces = [piece for letter in LETTERS for piece in (letter, f"##{letter}")]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *pieces, *kept]))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_tokens)


QUANTITIES = [AGE, SLICE, *dict.fromkeys(REGIONS.values())]  # numbers that prompts mention
