"""Find what may identify a person or a place in text: DICOM attributes with a value, names, UIDs and local paths.

Every text that is published passes `given_away`. It reads the text as a reader of the rendered page would: Markdown,
HTML and other ways to write a character make no difference. Settings, which need no paths, names or dates, pass
`given_away_by_settings`, too.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

from meddiffusers.hub.vocabulary import texts_in, unknown_words

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

# The same in prose: names of what identifies a person, in any case, with a value that may do so.
_GAP = r"[\s_-]*"
_PERSON = r"(?:patient|proband|participant|subject|physician|operator|radiologist)(?:'?s|en)?"
_NUMBER_OF = _GAP.join(["medical", "record", "number"]) + "|" + "|".join(
    ["mrn", "ssn", "dob", r"d\.o\.b", rf"{_PERSON}{_GAP}(?:id|identifier|number|no)"]
    + [_GAP.join(words.split()) for words in (
        "social security number", "nhs number", "insurance number", "accession number", "date of birth", "birth date",
        "birthdate", "versichertennummer", "patientennummer", "fallnummer", "geburtsdatum", "phone number",
    )]
)  # fmt: skip
_NONE = r"(?:null|none|no|not|never|removed|absent|un\w+|anonym\w*|de-?identified|n/?a|is|are|was|were|of|and|or|the)\b"
_SEPARATOR = r"[\"')\s]*(?::|=|\||→|->|\bis\b)[\"'(\s|]*"
_LOOSE = re.compile(
    rf"\b(?:{_NUMBER_OF})\b\.?(?:{_SEPARATOR}|[\"'\s]+)(?!{_NONE})[\w.,/ -]{{0,12}}?\d"
    rf"|\b{_PERSON}{_GAP}(?:full{_GAP})?name\b[\"'\s]*(?::|=)[\"'\s]*(?!{_NONE})\w"
    rf"|\b(?:born|geb\.|geboren)\s*(?:on|am|in|at|:)?\s*(?:the\s)?\d",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"\b(?i:{_PERSON}{_GAP}(?:full{_GAP})?name)\b{_SEPARATOR}(?!(?i:{_NONE}))[^\W\d_a-z]"
    rf"|\b(?:{_KEYWORDS})[\s\"']+(?=[\w/-]*\d|\w+\^|[^\W\d_a-z]\w+,?\s[^\W\d_a-z])",
    re.MULTILINE,
)

# Two capitalised words, of which one is not known.
_PAIR = re.compile(
    rf"\b(?:(?i:{_PERSON})|Name|Surname|Nachname)[^\w\n.;,]{{1,8}}(?P<pair>[^\W\d_a-z][^\W\d_]+,?[^\S\n][^\W\d_a-z][^\W\d_]+)\b"
)

_PERSONS = "a person's name or number"
_ANYWHERE = {
    "a person's name as DICOM writes it": re.compile(
        r"\b[^\W\d_a-z][^\W\d_]+\^+[^\W\d_a-z]\w*|\b[^\W\d_]{3,}(?:\^+[^\W\d_]{3,}|\^\^)"
    ),
    "a UID": re.compile(r"\b[0-2](?:\.[0-9]+){5,}\b"),
    "a local path": re.compile(
        r"(?:^|[\s\"'(=:>|\[])(?:/(?!/)(?:[\w.@+-]+/)+[\w.@+-]*|/(?:home|Users|root|mnt|data|Volumes)/|[A-Za-z]:\\+\w|"
        r"[A-Za-z]:/\w|~/\w|\\\\\w)|\bfile:/",
        re.MULTILINE,
    ),
    "an e-mail address": re.compile(
        r"(?<![\w.+-])(?!git@)[\w.+-]+\s?(?:@|[(\[]at[)\]])\s?[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"
    ),
    "a telephone number": re.compile(r"(?<![\w.])\+\d[\d\s()/-]{8,}\d"),
    "a file as text (data:…)": re.compile(r"\bdata:[\w/+.-]*(?:;[\w=-]+)*(?:;base64)?,\w|[\w+/=]{400,}", re.IGNORECASE),
    "a date of birth": re.compile(r"\b(?:\d?\d[./-]\d?\d[./-]19\d\d|19\d\d-[01]\d-[0-3]\d)\b"),
    "control characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    _PERSONS: _LOOSE,
}
_IN_SETTINGS = {
    "a local path": re.compile(r"^[/~.]|\\|/.*/|^[A-Za-z]:"),
    "a date": re.compile(
        r"(?<!\d)(?:(?:19|20)\d\d(?:[01]\d[0-3]\d(?!\d)|-[01]\d-[0-3]\d)|\d?\d[./]\d?\d[./](?:19|20)?\d\d(?!\d))"
    ),
    "several lines": re.compile(r"[\n\r\x00]"),
}
_TAG = re.compile(r"\]\([^()\n]*\)|<!--|-->|</?[A-Za-z][^<>\n]{0,200}>")


def identifying_lines(text: str) -> list[int]:
    """Numbers of the lines that hold a DICOM attribute with a value, which may stand on the next line in JSON."""
    numbers = {number for number, line in enumerate(text.splitlines(), 1) if _IDENTIFIER.search(line)}
    numbers |= {text.count("\n", 0, match.start()) + 1 for match in _JSON_IDENTIFIER.finditer(text)}
    return sorted(numbers)


def given_away(text: str) -> list[str]:
    """What a text gives away, such as "a UID", each once."""
    read = _as_read(text)
    found = [what for what, pattern in _ANYWHERE.items() if pattern.search(text) or pattern.search(read)]
    pairs = [match["pair"] for match in _PAIR.finditer(read)]
    if _PERSONS not in found and (_IDENTIFIER.search(read) or _NAMED.search(read) or unknown_words(pairs)):
        found.append(_PERSONS)
    return found


def given_away_by_settings(content: Any) -> list[str]:
    """What the names and texts in settings give away, each with the text: settings need no paths, names or dates.

    `_name_or_path` is left out, as it is removed before publishing.
    """
    found = []
    for text in texts_in(content):
        kinds = [what for what, pattern in _IN_SETTINGS.items() if pattern.search(text)]
        found += [f"{what} ({text[:60]!r})" for what in dict.fromkeys([*kinds, *given_away(text)])]
    return found


def _as_read(text: str) -> str:
    """The text without Markdown's and HTML's marks, with one form of each character, in as many lines."""
    plain = unicodedata.normalize("NFKC", html.unescape(text))
    plain = "".join(" " if char == "\xa0" else char for char in plain if unicodedata.category(char) != "Cf")
    return re.sub(r"\\(?=[\^_*|])|[*`]", "", _TAG.sub(" ", plain)).replace("’", "'")
