"""Training tasks of text-to-MR: diffusion model, prompt encoder and attribute predictor."""
