"""The one rule for published text: what tells of a person or a place is found, however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from meddiffusers.hub.identifiers import given_away, given_away_by_settings
from meddiffusers.hub.vocabulary import unknown_words, without_model_numbers

ROOT = Path(__file__).parents[2]
TELLING = r"""
Patient name: Hans Mueller
patient_id: 1234567
| patient_name | Hans Mueller |
PATIENT ID: 1234567
PatientID → 1234567
- **PatientID:** 1234567
**Patient ID**: 1234567
`PatientID` 1234567
<!-- PatientName Mueller Hans -->
<td>PatientID</td><td>1234567</td>
Patient&#39;s Name: Mueller
Patient’s name: Hans
Patient's name is Hans Mueller
PatientName=Mueller\^Hans
PatientBirthDate 19570312
patientid: 123
patient-name: mueller
00100010: Mueller
**Patient:** Hans Mueller
Patient: Hans Mueller, DOB 12.03.1957
Patient Hans Mueller was scanned twice
Subject Mueller, Hans (born 12.03.1957)
Name: Hans Mueller
participant_id | 00123
DOB: 12/03/1957
D.O.B. 1/2/57
Born 1957-03-12, scanned 20230114
date of birth 12 March 1957
MRN: 00123456
mrn=77
Medical Record Number: A12
SSN 078-05-1120
Accession Number: 778812
accession_number: 778812
Versichertennummer A123456789
phone +49 30 450 512345
contact hans.mueller@charite.de
hans.mueller (at) charite.de
MUELLER^^^
mueller^hans
Müller＾Hans
/mnt/pacs/Mueller_Hans/t1.nii.gz
see /scratch/hans/x.nii
file:///data/Mueller_Hans/1.dcm
/Volumes/PACS/Mueller
/data/scans
~/scans
C:\Users\hans\x
D:/pacs/hans
\\server\share
![x](data:image/png;base64,iVBORw0KGgoAAAANSUhEUg)
1.2.840.113619.2.5.17
Patient 🧑: Hans Mueller
[Patient ID](x): 4711
Patient ID:<br>4711
&#80;atient ID: 4711
<p title="PatientID: 4711">x</p>
[//]: # (PatientID 4711)
<mailto:hans@charite.de>
| Hans Mueller | 12.03.1957 |
""".strip().splitlines()
HONEST = r"""
patients' age
contact: see the repository
PatientID and PatientName were removed.
`PatientID` is removed
patient id is never stored
MRN numbers are removed
the patient's name is removed
no patient names
Patients: 369 with glioma
Patient age: 18 to 90 years
| Patient age | Dice |
per patient: the Dice is 0.9
subject: 1 of 20
30 subjects, 10 slices each
Subject White Matter
Patients were born between 1930 and 1990
born digital
The data set has no dates of birth.
participants.tsv has participant_id and age
Name: Brain Tumour
model_name: AR-VAE MNIST
      name: Best Dice, pixels
author = {Song, Jiaming and Meng, Chenlin}
git@github.com:owner/repo.git
@misc{none}
https://github.com/a/b/c
doi:10.1038/s41592-020-01008-z
python -m x --output_dir runs/a --data_dir data/b
either and/or both, T1/T2, 1/2, a / b, / 256
x^2 + y^T, mm^3, 10^-4 and e^x
+0.02 (0.01 to 0.03), 2.16 +0.5 (95 % CI)
""".strip().splitlines()


@pytest.mark.parametrize(
    "line", [*TELLING, "QUJD" * 200, "PatientID\n: 1234567", "PatientID:\n  1234567", "P\u200batientID: 77"]
)
def test_what_tells_of_a_person_or_a_place_is_found(line: str) -> None:
    assert given_away(f"# A model\n\n{line}\n\nMore.")
    assert given_away_by_settings({"note": [line]})


@pytest.mark.parametrize("line", HONEST)
def test_honest_lines_tell_nothing(line: str) -> None:
    assert given_away(f"# A model\n\n{line}\n\nMore.") == []


@pytest.mark.parametrize(
    "file",
    [*sorted((ROOT / "examples/checkpoints").glob("*/README.md")), ROOT / "README.md", ROOT / "LICENSE"],
    ids=str,
)
def test_the_shipped_texts_tell_nothing(file: Path) -> None:
    assert given_away(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["12.03.1957", "1957-03-12", "19570312", "a/../b", "/x", "several\nlines"])
def test_settings_need_no_dates_and_paths(text: str) -> None:
    assert given_away_by_settings([text])


@pytest.mark.parametrize(
    "text",
    ["left kidneys", "T1 post-contrast", "white_matter_lesions", "UNet2DConditionModel", "CrossAttnUpBlock2D", "gelu",
     "lung nodule", "2004.02962", "mm²", "F", "DDIMScheduler", "ventricular volume", "optic nerve", "COVID-19"],
)  # fmt: skip
def test_words_of_anatomy_and_code_are_known(text: str) -> None:
    assert unknown_words({text: [text]}) == []


def test_names_of_persons_and_long_numbers_are_not_known() -> None:
    assert unknown_words({"a": ["Mueller Hans 12345"], "b": "left kidney of mueller"}) == [
        "12345", "Mueller", "Hans", "mueller",
    ]  # fmt: skip
    assert unknown_words("Mueller hans 12345", confirmed=["mueller hans, 12345"]) == []


@pytest.mark.parametrize(
    "text",
    [
        "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz, 2 cores, torch 2.13.0+cpu",
        "13th Gen Intel(R) Core(TM) i9-13900K, 8 cores, torch 2.6.0",
        "AMD Ryzen Threadripper PRO 5995WX 64-Cores, 128 cores, torch 2.9.1+cu126",
        "NVIDIA GeForce RTX 4090, torch 2.9.1+cu126",
        "NVIDIA A100-SXM4-80GB, torch 2.6.0+cu124",
        "Apple M2 Pro, 8 cores, torch 2.6.0",
    ],
)
def test_processors_are_known(text: str) -> None:
    assert unknown_words(without_model_numbers(text)) == []
    assert unknown_words(without_model_numbers(f"Station MRC35012 Charite, {text}"))[:3] == ["35012", "MRC", "Charite"]
