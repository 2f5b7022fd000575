"""Checks of a repository on disk: a sound one has no issue, each issue has its sentence, and nothing is unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from helpers.hub_fixtures import copy
from safetensors.torch import save_file

from meddiffusers.hub.checks import RepositoryError, identifier_issues, repository_issues, weight_issues

IDENTIFYING = [
    '"PatientName": "Doe^John",',
    '"PatientName": ["Doe"]',
    "PatientID=4711",
    "| PatientID | 4711 |",
    "Patient's Birth Date: 19700101",
    "(0010,0010) Patient's Name                      PN: 'Doe^John'",
    "(0010,0020) LO [4711]",
    '"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^John"}]}',
    "(0008,0050) Accession Number                    SH: '12'",
    "Referring Physician's Name: House",
    "InstitutionName: Princeton-Plainsboro",
    "Study Instance UID   UI: 1.2.840.113619",
    '"SOPInstanceUID":"1.2.840.113619"',
]
HARMLESS = [
    '"PatientName": "",',
    '"PatientName": null',
    '"PatientName": [],',
    "| PatientID |  |",
    "(0010,0010) PN (no value available)",
    "Patient's Name   PN: ''",
    "PatientID and PatientName were removed.",
    '"patient_id": "train-17"',
    '"100100010": 3',
]


@pytest.mark.parametrize("name", ["first", "second", "stock"])
def test_a_sound_repository_has_no_issue(repositories: Path, name: str) -> None:
    folder = repositories / name
    assert repository_issues(folder) + weight_issues(folder) + identifier_issues(folder) == []


@pytest.mark.parametrize("line", IDENTIFYING)
@pytest.mark.parametrize("file", ["scan.json", "README.md", "table.csv"])
def test_identifiers_are_found(tmp_path: Path, line: str, file: str) -> None:
    (tmp_path / file).write_text(f"first line\n{line}\n")
    assert identifier_issues(tmp_path) == [f"{file}, line 2, holds a DICOM identifier. Remove it."]


@pytest.mark.parametrize("line", HARMLESS)
def test_names_without_a_value_are_no_identifiers(tmp_path: Path, line: str) -> None:
    (tmp_path / "scan.json").write_text(line)
    assert identifier_issues(tmp_path) == []


def test_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "series" / "empty.dcm").write_bytes(b"")
    assert identifier_issues(tmp_path) == [
        "series/IM0001 is a DICOM file, which carries identifiers. Convert it to NIfTI or PNG."
    ]


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return (SystemExit, ("unpickled",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_under_a_false_name_is_found_and_left_alone(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    assert weight_issues(tmp_path) == [
        "model.safetensors is named .safetensors but is a pickle. Convert it with safetensors.torch.save_file."
    ]


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"])
def test_a_pickle_is_found_and_left_alone(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(pickle.dumps(Bomb()))
    assert weight_issues(tmp_path) == [
        f"weights{suffix} is a pickle, which can run code when opened. Convert it to safetensors."
    ]


@pytest.mark.parametrize("key", ["conv.lora_A.weight", "conv.base_layer.weight"])
def test_adapter_keys_belong_into_files_of_their_own(tmp_path: Path, key: str) -> None:
    for name in ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model"):
        save_file({key: torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    assert weight_issues(tmp_path) == [
        f"{name}.safetensors holds adapter weights ({key}, …) inside the base model. "
        "Unload or fuse the adapter, then save."
        for name in ("diffusion_pytorch_model", "model")
    ]


def test_only_what_is_asked_for_is_looked_at(tmp_path: Path) -> None:
    for folder in ("vae", "checkpoint-1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.pt").write_bytes(b"")
    assert [issue.partition(" ")[0] for issue in weight_issues(tmp_path, within="vae")] == ["vae/weights.pt"]
    assert len(weight_issues(tmp_path)) == 2


def test_an_absent_component_and_other_entries_of_the_index_are_no_issue(repositories: Path, tmp_path: Path) -> None:
    folder = copy(repositories / "first", tmp_path / "repository")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": [None, None], "sizes": [1, 2, 3], "empty": [], "_class_name": ["file", "Class"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert repository_issues(folder) == []


def test_the_error_names_every_issue() -> None:
    error = RepositoryError("tester/tiny", ["One.", "Two."])
    assert str(error) == "tester/tiny cannot be used:\n  - One.\n  - Two."
    assert error.issues == ["One.", "Two."]
    assert isinstance(error, ValueError)
