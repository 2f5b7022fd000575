"""DICOM series for tests: real headers with patient identifiers, at any position and orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

PATIENT = {
    "PatientName": "Secretname^Sabine",
    "PatientID": "SECRET-ID-77",
    "PatientBirthDate": "19511231",
    "PatientAddress": "Secret Street 5",
    "OtherPatientIDs": "SECRET-OTHER",
    "ReferringPhysicianName": "Secretdoctor^D",
    "InstitutionName": "Secret Hospital",
    "AccessionNumber": "SECRETACC",
    "StudyID": "SECRETSTUDY",
    "StudyDescription": "Secretstudy of Sabine",
    "PatientComments": "Secretcomment",
}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(folder: Path, array: np.ndarray, affine: np.ndarray, seed: int = 0, **changes: Any) -> list[Path]:
    """Slices (X, Y, Z) of int16 or uint16 at an affine (RAS+, mm) without shear, under shuffled names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    spacing, lps = np.linalg.norm(affine[:3, :3], axis=0), LPS @ affine
    axes = lps[:3, :3] / spacing
    study, series, place = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for index, name in enumerate(rng.permutation(array.shape[2])):
        dataset = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
        for keyword, value in {**PATIENT, "SeriesDescription": "T2 tra", **changes}.items():
            setattr(dataset, keyword, value)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, place
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Columns, dataset.Rows = array.shape[:2]
        dataset.PixelRepresentation = int(array.dtype.kind == "i")
        dataset.InstanceNumber = int(name) + 1
        dataset.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]
        dataset.SliceThickness = decimal(spacing[2])
        dataset.ImageOrientationPatient = [decimal(value) for value in axes[:, :2].T.ravel()]
        dataset.ImagePositionPatient = [decimal(value) for value in (lps @ [0, 0, index, 1])[:3]]
        dataset.PixelData = np.ascontiguousarray(array[:, :, index].T).tobytes()
        paths.append(folder / f"{name:03}")
        dataset.save_as(paths[-1])
    return paths


def decimal(value: float) -> str:
    """At most sixteen characters, as DICOM writes numbers."""
    return f"{value:.12f}"[:16]
