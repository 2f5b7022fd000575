"""Evaluation of anomaly detection: pixel-wise and subject-wise detection against baselines."""
