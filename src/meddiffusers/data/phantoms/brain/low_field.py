"""Simulate low-field MRI, as of portable 64 mT scanners: lower resolution, more noise, weaker contrast, a bias field.

An image-domain model of the effects seen in such scans (Arnold et al. 2023, "Low-field MRI: clinical promise and
challenges"), not a model of the physics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject

BLUR = 2.6  # mm, in-plane point spread, full width at half maximum
CONTRAST = 0.75  # factor on the differences from the brain's mean
SHADE, SHADE_LENGTH = 0.25, 60.0  # bias field: standard deviation of its logarithm, and correlation length in mm
NOISE = 0.07  # standard deviation of the real and the imaginary channel, relative to the brain's mean


def simulate_low_field(subject: Subject, seed: int = 0) -> Subject:
    """Return the subject with degraded images; anatomy and labels are unchanged."""
    images = {
        name: _degrade(scan, np.random.default_rng([seed, number]))
        for number, (name, scan) in enumerate(subject.images.items())
    }
    return replace(subject, images=images)


def _degrade(scan: Scan, rng: np.random.Generator) -> Scan:
    image = scan.array[0].astype(np.float64)
    inside = image > 0
    width = BLUR / 2.355
    across = int(np.argmax(scan.spacing))  # no blur across thick slices
    sigma = [0.0 if axis == across else width / edge for axis, edge in enumerate(scan.spacing)]
    level = image[inside].mean() if inside.any() else 1.0
    soft = ndimage.gaussian_filter(level + CONTRAST * (image - level) * inside, sigma)
    shade = ndimage.gaussian_filter(rng.normal(size=image.shape), [SHADE_LENGTH / edge for edge in scan.spacing])
    shade = np.exp(SHADE * shade / max(shade.std(), 1e-9))
    real, imaginary = NOISE * level * rng.normal(size=(2, *image.shape))
    measured = np.hypot(soft * shade + real, imaginary)
    return scan.like((measured * inside)[None].astype(np.float32), scan.modality)
