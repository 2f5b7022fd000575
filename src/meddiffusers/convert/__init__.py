"""Weights of other code bases, brought into diffusers."""
