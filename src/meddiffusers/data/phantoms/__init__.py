"""Phantoms: random brains and hearts with known anatomy, generated from a seed."""
