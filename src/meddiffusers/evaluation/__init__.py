"""Evaluation: reports, metrics and figures, one folder per system."""
