"""Training tasks of unconditional and class-conditional image diffusion, and of its classifier."""
