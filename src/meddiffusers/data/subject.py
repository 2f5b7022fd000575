"""One subject with everything that is known of it: what a phantom gives and a folder layout takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meddiffusers.data.scan import Scan


@dataclass(frozen=True, eq=False)
class Subject:
    """Scans of one subject, its label maps and its record.

    images: a scan of one channel for each modality, by the name of `data.modalities`; their grids may differ.
    regions: label map of `data.regions`, if any; lesions: label map of BraTS (1 necrosis, 2 oedema, 4 enhancing).
    raters: (R, X, Y, Z) of 0 and 1, one channel for each rater's outline of the whole lesion.
    volumes: mm³ of each label of `regions`, with partial volumes, by label id.
    record: whatever else is known, such as age in years, sex "F" or "M".
    """

    number: int
    images: Mapping[str, Scan]
    regions: Scan | None = None
    lesions: Scan | None = None
    raters: Scan | None = None
    volumes: Mapping[int, float] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
