"""Evaluation of text-to-image generation: prompt adherence and image fidelity."""
