"""Figures: panels of images and orthogonal slices of volumes."""
