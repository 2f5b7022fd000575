"""A scanner of low field: coarser, noisier, of weaker contrast and uneven brightness, as portable ones of 64 mT are.

Not a model of physics: each change is one that shows in images of such scanners (Arnold et al. 2023, "Low-field MRI:
clinical promise and challenges").
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject

BLUR = 2.6  # mm within the plane, full width at half maximum
CONTRAST = 0.75  # of the differences from the brain's mean
SHADE, SHADE_LENGTH = 0.25, 60.0  # standard deviation of the brightness, over mm
NOISE = 0.07  # standard deviation in each of two channels, over the brain's mean


def low_field(case: Subject, seed: int = 0) -> Subject:
    """The case as such a scanner would have taken it: the same anatomy and labels, other images."""
    images = {
        name: _received(scan, np.random.default_rng([seed, number]))
        for number, (name, scan) in enumerate(case.images.items())
    }
    return replace(case, images=images)


def _received(scan: Scan, random: np.random.Generator) -> Scan:
    image = scan.array[0].astype(np.float64)
    inside = image > 0
    width = BLUR / 2.355
    across = int(np.argmax(scan.spacing))  # of thick slices; they stay as they are
    sigma = [0.0 if axis == across else width / edge for axis, edge in enumerate(scan.spacing)]
    level = image[inside].mean() if inside.any() else 1.0
    soft = ndimage.gaussian_filter(level + CONTRAST * (image - level) * inside, sigma)
    shade = ndimage.gaussian_filter(random.normal(size=image.shape), [SHADE_LENGTH / edge for edge in scan.spacing])
    shade = np.exp(SHADE * shade / max(shade.std(), 1e-9))
    real, imaginary = NOISE * level * random.normal(size=(2, *image.shape))
    measured = np.hypot(soft * shade + real, imaginary)
    return scan.like((measured * inside)[None].astype(np.float32), scan.modality)
