"""Convert weights of other projects to models of diffusers."""
