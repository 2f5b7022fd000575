"""Cardiac phantom in apical views: label maps over a cardiac cycle, ultrasound images, and segmentation errors."""

from meddiffusers.data.phantoms.cardiac.errors import ERROR_KINDS, InjectedError, corrupt_sequence
from meddiffusers.data.phantoms.cardiac.ground_truth import MEASUREMENTS
from meddiffusers.data.phantoms.cardiac.phantom import CardiacPhantom

__all__ = ["ERROR_KINDS", "MEASUREMENTS", "CardiacPhantom", "InjectedError", "corrupt_sequence"]
