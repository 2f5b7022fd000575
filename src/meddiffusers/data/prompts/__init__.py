"""Prompts of slices: facts from labelled scans, text written from facts, and facts parsed from text."""

from meddiffusers.data.prompts.facts import SliceFacts, slice_facts
from meddiffusers.data.prompts.reading import mirrored_prompt, read_prompt, read_volumes
from meddiffusers.data.prompts.writing import sample_facts, write_prompt, write_prompt_within

__all__ = [
    "SliceFacts",
    "mirrored_prompt",
    "read_prompt",
    "read_volumes",
    "sample_facts",
    "slice_facts",
    "write_prompt",
    "write_prompt_within",
]
