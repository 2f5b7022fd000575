"""Random beating hearts in an apical view: label maps in mm, ultrasound pictures, faulty segmentations."""

from meddiffusers.data.cardiac_phantom.errors import ERROR_KINDS, InjectedError, corrupted
from meddiffusers.data.cardiac_phantom.phantom import CardiacPhantom
from meddiffusers.data.cardiac_phantom.truth import TRUTH

__all__ = ["ERROR_KINDS", "TRUTH", "CardiacPhantom", "InjectedError", "corrupted"]
