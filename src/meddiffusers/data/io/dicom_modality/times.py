"""The modality by the times of the sequence.

Spin echoes, in ms:  T1 has TE ≤ 30 and TR ≤ 1200;  PD TE ≤ 40 and TR ≥ 1800;  T2 TE from 60 to 200 and TR ≥ 1800.
With an inversion pulse:  FLAIR has TI ≥ 1400 and TE ≥ 60;  T1 (MPRAGE, T1-FLAIR) TI from 400 to 1300 and TE ≤ 40.
A "FLAIR" with a TI below 300 is a STIR. Diffusion has b-values. Outside these limits, and for plain gradient echoes,
tags do not tell.
"""

from __future__ import annotations

from typing import Any

from meddiffusers.data.io.dicom_modality.tags import number_in, values_in
from meddiffusers.data.modalities import Recognized

SHORT, LATE = 300, 10  # ms of inversion, and of a gradient echo
# What a text may say beside the times: an inversion time is not always recorded, and none show an agent.
COMPATIBLE = {
    "t1": {"t1", "t1ce"},
    "t2": {"t2", "flair"},
    "pd": {"pd", "t1", "t1ce", "flair"},
    "flair": {"flair"},
}


def weighted(dataset: Any, said: Recognized) -> Recognized:
    """What the times of the sequence tell, where they do, else what was said."""
    if (number_in(dataset, "DiffusionBValue") or 0) > 0:  # some scanners write 0 into every image
        return Recognized("dwi", "DiffusionBValue")
    modality, tags = _by_times(dataset)
    if said.modality == "t2" and _is_long_gradient_echo(dataset):
        return Recognized("", f"{said.evidence}, but a gradient echo: t2star")
    if said.modality == "flair" and 0 < (number_in(dataset, "InversionTime", "InversionTimes") or 0) < SHORT:
        return Recognized("", f"{said.evidence}, but {tags}")  # it is fat, not water, that is suppressed
    named = {*said.candidates} or {said.modality}
    return said if not modality or named <= COMPATIBLE[modality] else Recognized(modality, tags)


def _by_times(dataset: Any) -> tuple[str, str]:
    """The modality that the times of a sequence tell, "" if none, and the tags."""
    echo, sequence = _echo(dataset), _sequence(dataset)
    repetition = number_in(dataset, "RepetitionTime")
    inversion = number_in(dataset, "InversionTime", "InversionTimes") or 0.0
    if not echo or repetition is None:
        return "", ""
    if inversion or "IR" in sequence:
        modality = "flair" if inversion >= 1400 and echo >= 60 and "EP" not in sequence else ""  # not labelled spins
        modality = "t1" if 400 <= inversion <= 1300 and echo <= 40 else modality
        return modality, f"EchoTime {echo:g}, InversionTime {inversion:g}"
    if not sequence & {"SE", "SPIN"} or sequence & {"GR", "EP"}:
        return "", ""
    modality = "t1" if echo <= 30 and repetition <= 1200 else ""
    if repetition >= 1800:
        modality = "t2" if 60 <= echo <= 200 else "pd" if echo <= 40 else ""
    return modality, f"EchoTime {echo:g}, RepetitionTime {repetition:g}"


def _is_long_gradient_echo(dataset: Any) -> bool:
    """Whether the sequence has gradient echoes alone, late enough for T2*."""
    sequence = _sequence(dataset)
    return (
        bool(sequence & {"GR", "EP", "GRADIENT"}) and not sequence & {"SE", "SPIN", "BOTH"} and _echo(dataset) >= LATE
    )


def _sequence(dataset: Any) -> set[str]:
    return {str(each).upper() for each in values_in(dataset, "ScanningSequence", "EchoPulseSequence")}


def _echo(dataset: Any) -> float:
    """Echo time in ms; 0 if unknown."""
    return number_in(dataset, "EchoTime", "EffectiveEchoTime") or 0.0
