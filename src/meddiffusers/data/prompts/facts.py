"""Facts of a slice that a prompt describes: subject, modality, position, and volumes of the regions."""

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
SAME = {48: 49}  # two ids of one region: FreeSurfer 4 and later
DECIMALS = 3  # of the voxel size in mm


@dataclass(frozen=True)
class SliceFacts:
    """Facts of one slice; values that are None are not mentioned in prompts.

    Args:
        modality: a name of `data.modalities`, such as "t1".
        sex: "F" or "M".
        age: whole years.
        plane: "axial", "coronal" or "sagittal".
        number: of the slice, from 1 for the first with brain (the most inferior, posterior or left one).
        voxel: edge lengths in mm, rounded to three decimals.
        volumes: mm³ in this slice by id of `data.regions`, rounded to integers; zeros are removed.

    Raises:
        ValueError: a value out of its range, or an unknown region.

    Example:
        >>> facts = SliceFacts("t1", sex="F", age=63, number=71, volumes={4: 310, 43: 295})
        >>> write_prompt(facts)
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
            raise ValueError(f"number={self.number}; expected slice numbers from 1.")
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
        """Keep only the `count` largest regions."""
        largest = sorted(self.volumes, key=lambda label: (-self.volumes[label], label))[:count]
        return self.with_regions(largest)

    def with_regions(self, labels: Iterable[int]) -> SliceFacts:
        """Keep only these regions."""
        kept = {SAME.get(label, label) for label in labels}
        return replace(self, volumes={label: mm3 for label, mm3 in self.volumes.items() if label in kept})

    def mirrored(self) -> SliceFacts:
        """Facts of the slice flipped left to right; image and label map must be flipped as well."""
        return replace(self, volumes={MIRRORED[label]: mm3 for label, mm3 in self.volumes.items()})


def slice_facts(
    regions: Scan, modality: str, record: Mapping[str, Any], plane: Plane = "axial"
) -> dict[int, SliceFacts]:
    """Facts of all slices with brain, by their number in `preprocessing.slices`.

    Args:
        regions: label map with FreeSurfer's ids; unknown ids are ignored.
        modality: of the scan.
        record: of the subject; "sex" and "age" are optional.
        plane: of the slices.
    """
    cut = slices(regions, plane)
    nonempty = [number for number in range(len(cut.array)) if cut.array[number].any()]
    age, edges = record.get("age"), regions.spacing
    return {
        int(cut.numbers[number]): SliceFacts(
            modality=modality,
            sex=record.get("sex"),
            age=None if age is None else round(float(age)),
            plane=plane,
            number=number - nonempty[0] + 1,
            voxel=edges,
            volumes=_named(region_volumes(cut.array[number], regions.voxel_volume)),
        )
        for number in nonempty
    }


def _named(volumes: Mapping[int, float]) -> dict[int, Any]:
    return {label: mm3 for label, mm3 in volumes.items() if label in REGIONS}


def _whole(age: float | None) -> int | None:
    return None if age is None else round(age)


def _edges(voxel: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if voxel is None else tuple(round(float(edge), DECIMALS) for edge in voxel)


def _summed(volumes: Mapping[int, float]) -> dict[int, int]:
    """Positive whole mm³ in the order of the ids."""
    summed: dict[int, float] = {}
    for label, mm3 in sorted(volumes.items()):
        summed[SAME.get(label, label)] = summed.get(SAME.get(label, label), 0) + mm3
    return {label: round(mm3) for label, mm3 in sorted(summed.items()) if round(mm3)}
