"""Whole synthetic data sets: covariates are drawn, volumes of them made, gated, and written in shards."""
