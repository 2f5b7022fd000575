"""BraTS 2017 to 2025: brain tumours in four co-registered modalities, with tumour masks. `brats_names` has the years.

Available from the challenge's sites (2017 to 2020: University of Pennsylvania, CBICA; later: Synapse; registration),
earlier years also from TCIA. For research only, with citation of Menze 2015, Bakas 2017 and 2018, from 2021 on also of
Baid 2021; redistribution is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import datasets

from meddiffusers.data.io import read
from meddiffusers.datasets.public.brats.names import FILES, Case, case_of, cases_in, has_pediatric_ids_of_2024
from meddiffusers.datasets.public.building import Options, build
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row, scans_named
from meddiffusers.datasets.public.tables import Record, first_table, match_records, read_table, to_number

GRADES = ("HGG", "LGG")
MODALITIES = ("t1", "t1ce", "t2", "flair")
PEDIATRIC_2024 = "1 enhancing, 2 not enhancing, 3 cystic, 4 oedema"
PEDIATRIC_EXPECTED = (
    "expected the ids of 2023 (1 not enhancing, 2 oedema, 3 enhancing): convert them, into a folder without that year"
)
IDS_OF_SUBJECTS = re.compile(r"BraTS_20\d\d_subject_ID")


def brats(folder: str | Path, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load the folder of a year, of its training or validation part, or of both; one row per visit.

    Args:
        folder: the unpacked download.
        **options: see `Options`.

    Returns:
        Splits with the columns subject; case (the folder's name, with the visit); t1, t1ce, t2, flair (skull-stripped,
        240×240×155 voxels of 1 mm on one grid); seg (None without mask, and absent if no case has one), enhancing_label
        (the id of enhancing tumour in it: 4 until 2021, 3 since 2023); grade ("HGG", "LGG"); age in years;
        survival_days; alive (whether the patient was alive after survival_days); resection ("GTR", "STR"). The last
        five are None if unknown; they come from name_mapping.csv and survival_info.csv of 2020, both optional, and the
        grade until 2019 from the folders HGG and LGG.

    Raises:
        DatasetError: a mask with an id that the year does not have; see also `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    found = cases_in(index.folder)
    records = _records(index, found)
    for name, copies in found.items():
        if case := case_of(name):
            index.single(case.subject, f"the case {name}", copies)
            index.rows.append(_row(index, case, copies[0], records.get(name, {})))
    index.require_rows(
        "BraTS", "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz or BraTS-GLI-00000-000/…-t2f.nii.gz"
    )
    _note_years(index, found)
    _check_pediatric(index, found, look=options.get("skip_invalid", False))
    features = {
        **dict.fromkeys(("subject", "case"), datasets.Value("string")),
        **{name: datasets.Nifti() for name in FILES if name != "seg" or any(row.scans[name] for row in index.rows)},
        "enhancing_label": datasets.Value("int64"),
        "grade": datasets.Value("string"),
        "age": datasets.Value("float64"),
        "survival_days": datasets.Value("int64"),
        "alive": datasets.Value("bool"),
        "resection": datasets.Value("string"),
    }
    return build(index, features, same_grid=True, **options)


def _row(index: Index, case: Case, folder: Path, record: Record) -> Row:
    scans = {
        name: index.single(
            case.subject,
            f"{case.name} {name}",
            scans_named(folder, f".*[-_](?i:{ending})"),
            needed=name != "seg" or case.has_mask is True,
        )
        for name, ending in FILES.items()
    }
    grade = next((part for part in folder.relative_to(index.folder).parts if part in GRADES), None)  # until 2019
    known = {"case": case.name, "enhancing_label": case.enhancing if scans["seg"] else None, "grade": grade}
    return Row(case.subject, case.name, scans, known | record, {"seg": case.labels})


def _note_years(index: Index, names: Collection[str]) -> None:
    """Note what a folder's names do not tell: patients recur in other years, and PED has had two numberings."""
    years = sorted({re.split(r"[_-]", name)[0] for name in names})
    if len(years) > 1:
        index.notes.append(
            f"cases of several years ({', '.join(years)}): a patient may be in them under several names, "
            "and so in both splits"
        )


def _check_pediatric(index: Index, found: Mapping[str, Sequence[Path]], *, look: bool) -> None:
    """Refuse the cases of BraTS-PED whose masks have the ids of 2024; note what those of the others are read as.

    Args:
        index: of the folder.
        found: the cases' folders.
        look: look for a 4 in their masks. Not needed where the check of each mask ends with an error.
    """
    cases = {name: case for name in found if (case := case_of(name)) and case.is_pediatric}
    rows = [row for row in index.rows if row.name in cases and row.scans["seg"]]
    named = [row for row in rows if has_pediatric_ids_of_2024(cases[row.name], found[row.name][0], index.folder)]
    if not named and look and any(4 in read(row.scans["seg"]).array for row in rows):
        named = rows
    index.issues.extend(
        Issue(row.subject, f"{row.name}: the mask is of 2024 or later ({PEDIATRIC_2024}); {PEDIATRIC_EXPECTED}")
        for row in named
    )
    if len(named) < len(rows):
        index.notes.append(f"BraTS-PED: ids are read as those of 2023; masks since 2024 have others ({PEDIATRIC_2024})")


def _records(index: Index, subjects: Collection[str]) -> dict[str, Record]:
    """Metadata of each subject from the two tables."""
    grades, survival = dict[str, Record](), dict[str, Record]()
    if path := first_table(index.folder, "name_mapping.csv"):
        rows = read_table(path, columns=("Grade",))
        columns = [name for name in (rows[0] if rows else ()) if IDS_OF_SUBJECTS.fullmatch(name)]
        if rows and not columns:
            raise ValueError(f"{path} has no column BraTS_2020_subject_ID; it has {', '.join(rows[0])}. Rename one.")
        entries = [(row[name], {"grade": row["Grade"]}) for row in rows for name in columns if row[name] in subjects]
        grades = match_records(index, path, entries, subjects)
    if path := first_table(index.folder, "survival_info.csv"):
        rows = read_table(path, columns=("Brats20ID", "Age", "Survival_days", "Extent_of_Resection"))
        survival = match_records(index, path, [(row["Brats20ID"], _survival(row)) for row in rows], subjects)
    return {subject: grades.get(subject, {}) | survival.get(subject, {}) for subject in subjects}


def _survival(row: Record) -> Record:
    """Parse survival; days are a number, or text such as "ALIVE (361 days later)"."""
    text = str(row["Survival_days"] or "")
    days = re.search(r"\d+", text)
    return {
        "age": to_number(row["Age"]),
        "survival_days": int(days[0]) if days else None,
        "alive": "ALIVE" in text if text else None,
        "resection": row["Extent_of_Resection"],
    }
