"""Random beating hearts in an apical view: label maps in mm, ultrasound images, invalid segmentations."""

from meddiffusers.data.phantoms.cardiac.errors import ERROR_KINDS, InjectedError, corrupted
from meddiffusers.data.phantoms.cardiac.ground_truth import TRUTH
from meddiffusers.data.phantoms.cardiac.phantom import CardiacPhantom

__all__ = ["ERROR_KINDS", "TRUTH", "CardiacPhantom", "InjectedError", "corrupted"]
