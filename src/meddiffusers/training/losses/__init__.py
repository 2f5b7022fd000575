"""Losses and data augmentation."""
