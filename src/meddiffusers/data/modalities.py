"""Names of modalities, and their spellings in file names and series descriptions."""

from __future__ import annotations

import re

LABELS = "labels"

# The first pattern that matches counts. Matches are whole words: "t1" does not match "t10".
_SPELLINGS = {
    LABELS: r"seg(m|mentation)?|mask|labels?|gt|fseg|aparc|aseg|segtri",
    "flair": r"flair|tirm|dark[ _-]?fluid",
    "t1ce": r"t1[ _-]?(ce|c|gd|km|post|contrast)|ce[ _-]?t1|mprage[ _-]?(gd|km|ce)",
    "t1": r"t1w?|mprage|mpr|spgr|bravo|tfe|ana",
    "t2": r"t2w?",
    "pd": r"pdw?|fse[ _-]?pd|proton",
    "dwi": r"dwi|dti|adc",
    "us": r"us|[24]ch|b-?mode",
    "cine": r"cine|heart",
    "ct": r"ct",
}  # fmt: skip
MODALITIES = (*_SPELLINGS,)


def modality_in(text: str) -> str:
    """Modality in a file name or description; "" if there is none."""
    text = text.lower()
    for name, spelling in _SPELLINGS.items():
        if re.search(rf"(?<![a-z0-9])({spelling})(?![a-z0-9])", text):
            return name
    return ""
