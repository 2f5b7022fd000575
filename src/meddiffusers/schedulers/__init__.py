"""Schedulers, one self-contained file each; these files are published with the weights."""
