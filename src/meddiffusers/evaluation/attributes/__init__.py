"""Evaluation of attribute-regularized autoencoders: calibration, latent moments and traversals."""
