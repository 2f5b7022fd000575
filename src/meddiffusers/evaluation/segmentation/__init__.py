"""Evaluation of segmentation: overlap with several raters, calibration and uncertainty."""
