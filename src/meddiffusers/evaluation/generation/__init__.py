"""Evaluation of image and volume generation: fidelity, diversity and memorization."""
