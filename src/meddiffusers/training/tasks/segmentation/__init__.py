"""Training task of the conditional segmentation diffusion model."""
