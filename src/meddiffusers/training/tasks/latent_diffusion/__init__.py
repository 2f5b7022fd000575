"""Training tasks of latent diffusion of slices and volumes."""
