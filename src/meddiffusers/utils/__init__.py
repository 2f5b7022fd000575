"""Utilities without knowledge of images: atomic writes, optional imports, settings, seeds and text."""
