"""Synthetic data sets: sample covariates, generate images or volumes, filter them, and write them in shards."""
