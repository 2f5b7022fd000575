"""Find what may identify a person or a place in text: DICOM attributes with a value, names, UIDs and local paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# Attributes of PS3.15, table E.1-1, as keyword, name or tag with a value behind: `"PatientID": "7"`,
# `(0010,0010) Patient's Name  PN: 'Doe'`, `(0010,0010) PN [Doe]`, `| PatientID | 7 |`.
_KEYWORDS = (
    "PatientName|PatientID|PatientBirthDate|PatientBirthTime|PatientBirthName|PatientAge|PatientSex|"
    "PatientSize|PatientWeight|PatientAddress|PatientComments|PatientState|PatientTelephoneNumbers|"
    "PatientMotherBirthName|PatientReligiousPreference|PatientInstitutionResidence|OtherPatientIDs|"
    "OtherPatientNames|AdditionalPatientHistory|IssuerOfPatientID|MedicalRecordLocator|MilitaryRank|"
    "EthnicGroup|CountryOfResidence|RegionOfResidence|CurrentPatientLocation|AdmissionID|AccessionNumber|"
    "StudyID|StudyDate|SeriesDate|AcquisitionDate|AcquisitionDateTime|ContentDate|InstanceCreationDate|"
    "ReferringPhysicianName|PerformingPhysicianName|RequestingPhysician|NameOfPhysiciansReadingStudy|"
    "PhysiciansOfRecord|OperatorsName|OperatorName|InstitutionName|InstitutionAddress|"
    "InstitutionalDepartmentName|StationName|PerformedStationName|ScheduledStationName|DeviceSerialNumber|"
    "StudyInstanceUID|SeriesInstanceUID|SOPInstanceUID|FrameOfReferenceUID|ResponsiblePerson|PersonName|"
    "PersonAddress"
)
_TAGS = r"0010,? ?[0-9A-Fa-f]{4}|0008,? ?(?:0014|0018|005[05]|008[01]|009[0-6]|10[1-7][0-9])|0020,? ?(?:000[DdEe]|0010)"
_NAMES = re.sub(r"(?<=[a-zP])(?=[A-Z])", r"(?:'?s?'? )?", _KEYWORDS)
_IDENTIFIER = re.compile(
    rf"\b(?:(?:{_TAGS})\)?|{_NAMES})"
    r"[\"'\s|]*(?:[A-Z]{2}\b\s*)?[:=|\[][\"'\s|\[]*(?!null\b|None\b)[^\s\"'|,\[\]}]"
)
_JSON_IDENTIFIER = re.compile(rf"[\"'](?:{_TAGS}|{_KEYWORDS})[\"']\s*:\s*(?:\[\s*)*(?:\{{\s*[\"']|[\"'][^\"'\s]|[0-9])")

_ANYWHERE = {
    "a person's name as DICOM writes it": re.compile(r"\b[^\W\d_a-z][^\W\d_]+\^+[^\W\d_a-z]\w*"),
    "a UID": re.compile(r"\b[0-2](?:\.[0-9]+){5,}\b"),
    "a local path": re.compile(r"(?:^|[\s\"'`(=:])(?:/(?:home|Users|root)/\w|[A-Za-z]:\\+\w|~/\w|\\\\\w)"),
}
_IN_SETTINGS = {
    **_ANYWHERE,
    "a local path": re.compile(r"^[/~.]|\\|/.*/|^[A-Za-z]:"),
    "an e-mail address": re.compile(r"\S@\S+\.\w"),
    "a date": re.compile(r"(?<!\d)(?:19|20)\d\d(?:[01]\d[0-3]\d(?!\d)|-[01]\d-[0-3]\d)"),
    "several lines": re.compile(r"[\n\r\x00]"),
}


def identifying_lines(text: str) -> list[int]:
    """Numbers of the lines that hold a DICOM attribute with a value, which may stand on the next line in JSON."""
    numbers = {number for number, line in enumerate(text.splitlines(), 1) if _IDENTIFIER.search(line)}
    numbers |= {text.count("\n", 0, match.start()) + 1 for match in _JSON_IDENTIFIER.finditer(text)}
    return sorted(numbers)


def given_away(text: str) -> list[str]:
    """What a text gives away, such as "a UID", whatever stands before it."""
    return [what for what, pattern in _ANYWHERE.items() if pattern.search(text)]


def given_away_by_settings(content: Any) -> list[str]:
    """What the names and texts in settings give away, each with the text: settings need no paths, names or dates.

    `_name_or_path` is left out, as it is removed before publishing.
    """
    return [
        f"{what} ({text[:60]!r})"
        for text in _texts(content)
        for what, pattern in _IN_SETTINGS.items()
        if pattern.search(text)
    ]


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield str(name)
            yield from _texts(value if name != "_name_or_path" else None)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content
