"""What a prompt says of a slice: who was scanned, how, where the slice lies, and how large the regions in it are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from meddiffusers.data.modalities import MODALITIES
from meddiffusers.data.preprocessing.slices import Plane, slices
from meddiffusers.data.regions import MIRRORED, REGIONS, region_volumes
from meddiffusers.data.scan import Scan

PLANES = ("axial", "coronal", "sagittal")
SEXES = ("F", "M")
AGES = (0, 120)  # years
SAME = {48: 49}  # ids of one region, whose name they share: FreeSurfer 4's and later
DECIMALS = 3  # of a voxel's edges in mm


@dataclass(frozen=True)
class SliceFacts:
    """One slice in words' terms; whatever is None is not spoken of.

    modality: a name of `data.modalities`, such as "t1".
    sex: "F" or "M"; age: whole years.
    plane: "axial", "coronal" or "sagittal".
    number: of the slice, from 1, the lowest that shows brain (the hindmost, the leftmost).
    voxel: edges in mm, of which three decimals are kept.
    volumes: mm³ in this slice by id of `data.regions`, rounded to whole ones; what rounds to 0 is left out.

    Raises:
        ValueError: a value that no prompt can say, or an id without a name.
    """

    modality: str
    sex: str | None = None
    age: int | None = None
    plane: Plane = "axial"
    number: int | None = None
    voxel: tuple[float, float, float] | None = None
    volumes: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("modality", MODALITIES), ("sex", (None, *SEXES)), ("plane", PLANES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(str, known))}.")
        if self.age is not None and not AGES[0] <= self.age <= AGES[1]:
            raise ValueError(f"age={self.age}; expected years from {AGES[0]} to {AGES[1]}.")
        if self.number is not None and self.number < 1:
            raise ValueError(f"number={self.number}; expected slices to be counted from 1.")
        if self.voxel is not None and (len(self.voxel) != 3 or not all(0.001 <= edge < 1000 for edge in self.voxel)):
            raise ValueError(f"voxel={self.voxel}; expected three edges from 0.001 to 1000 mm.")
        unknown = sorted(set(self.volumes) - set(REGIONS))
        if unknown or not all(0 <= volume < np.inf for volume in self.volumes.values()):
            raise ValueError(
                f"Got volumes {dict(self.volumes)}; expected mm³ of ids of data.regions"
                + (f", which has no {', '.join(map(str, unknown))}." if unknown else ", 0 or more.")
            )
        for name, kept in (
            ("age", _whole(self.age)),
            ("voxel", _edges(self.voxel)),
            ("volumes", _summed(self.volumes)),
        ):
            object.__setattr__(self, name, kept)

    def with_largest(self, count: int) -> SliceFacts:
        """Of its regions only the so many largest."""
        largest = sorted(self.volumes, key=lambda label: (-self.volumes[label], label))[:count]
        return self.with_regions(largest)

    def with_regions(self, labels: Iterable[int]) -> SliceFacts:
        """Of its regions only those given, where they are there."""
        kept = {SAME.get(label, label) for label in labels}
        return replace(self, volumes={label: mm3 for label, mm3 in self.volumes.items() if label in kept})

    def mirrored(self) -> SliceFacts:
        """Of the flipped slice: left is right. The image and its label map are to be flipped with it."""
        return replace(self, volumes={MIRRORED[label]: mm3 for label, mm3 in self.volumes.items()})


def slice_facts(
    regions: Scan, modality: str, record: Mapping[str, Any], plane: Plane = "axial"
) -> dict[int, SliceFacts]:
    """Facts of the slices that show brain, by their number as `data.slices` counts them.

    regions: label map of FreeSurfer's ids; those that prompts have no name for are passed over.
    record: of the subject; its "sex" and "age" are taken where they are known.
    """
    cut = slices(regions, plane)
    shown = [number for number in range(len(cut.array)) if cut.array[number].any()]
    age, edges = record.get("age"), regions.spacing
    return {
        int(cut.numbers[number]): SliceFacts(
            modality=modality,
            sex=record.get("sex"),
            age=None if age is None else round(float(age)),
            plane=plane,
            number=number - shown[0] + 1,
            voxel=edges,
            volumes=_named(region_volumes(cut.array[number], regions.voxel_volume)),
        )
        for number in shown
    }


def _named(volumes: Mapping[int, float]) -> dict[int, Any]:
    return {label: mm3 for label, mm3 in volumes.items() if label in REGIONS}


def _whole(age: float | None) -> int | None:
    return None if age is None else round(age)


def _edges(voxel: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if voxel is None else tuple(round(float(edge), DECIMALS) for edge in voxel)


def _summed(volumes: Mapping[int, float]) -> dict[int, int]:
    """Whole mm³ above 0, in the order of the ids."""
    summed: dict[int, float] = {}
    for label, mm3 in sorted(volumes.items()):
        summed[SAME.get(label, label)] = summed.get(SAME.get(label, label), 0) + mm3
    return {label: round(mm3) for label, mm3 in sorted(summed.items()) if round(mm3)}
