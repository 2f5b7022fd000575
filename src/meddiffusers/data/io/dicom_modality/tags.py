"""Values of DICOM tags, also of those in the functional groups of enhanced files."""

from __future__ import annotations

from typing import Any

PER_FRAME = "PerFrameFunctionalGroupsSequence"
OF_FRAMES = (
    *("FrameType", "EffectiveEchoTime", "RepetitionTime", "InversionTimes", "DiffusionBValue"),
    "ContrastBolusAgentAdministered",
)


def values_in(dataset: Any, *keywords: str) -> list[Any]:
    """Values of the first keyword that the data set, or the groups of an enhanced file's first frame, has."""
    groups = [dataset]
    for name in ("SharedFunctionalGroupsSequence", PER_FRAME):
        for sequence in list(dataset.get(name) or [])[:1]:
            groups += [item for element in sequence if element.VR == "SQ" for item in list(element.value)[:1]]
    for keyword in keywords:
        for group in groups:
            value = group.get(keyword)
            if value is not None and value != "":
                multiple = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
                return list(value) if multiple else [value]
    return []


def kinds_of_frames(dataset: Any) -> list[Any]:
    """The data set with one frame's groups, for each set of tags that frames of an enhanced file differ by."""
    frames = list(dataset.get(PER_FRAME) or [])
    kinds: dict[tuple[str, ...], Any] = {}
    for frame in frames if len(frames) > 1 else ():
        alone = type(frame)()
        setattr(alone, PER_FRAME, [frame])
        kinds.setdefault(tuple(str(values_in(alone, tag)) for tag in OF_FRAMES), alone)
    if len(kinds) < 2:
        return [dataset]
    for kind in kinds.values():
        kind.update({element.tag: element for element in dataset if element.keyword not in (PER_FRAME, "PixelData")})
    return [*kinds.values()]


def number_in(dataset: Any, *keywords: str) -> float | None:
    """The first of those values as a number; None if there is none."""
    try:
        return float(values_in(dataset, *keywords)[0])
    except (IndexError, TypeError, ValueError):
        return None
