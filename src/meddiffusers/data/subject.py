"""All data of one subject: the output of phantoms and the input of folder layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meddiffusers.data.scan import Scan


@dataclass(frozen=True, eq=False)
class Subject:
    """Scans, label maps and metadata of one subject.

    Args:
        number: identifies the subject in a data set.
        images: a scan of one channel by modality (`data.modalities`); grids may differ.
        regions: label map with the ids of `data.regions`.
        lesions: label map with the ids of BraTS: 1 necrosis, 2 oedema, 4 enhancing tumour.
        raters: (R, X, Y, Z) of 0 and 1, the whole lesion as segmented by R raters.
        volumes: mm³ of each region by label id, including partial volumes.
        record: other metadata, such as "age" in years and "sex", "F" or "M".
    """

    number: int
    images: Mapping[str, Scan]
    regions: Scan | None = None
    lesions: Scan | None = None
    raters: Scan | None = None
    volumes: Mapping[int, float] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
