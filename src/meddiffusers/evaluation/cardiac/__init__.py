"""Evaluation of the temporal consistency of cardiac segmentations."""
