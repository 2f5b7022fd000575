"""Scans in, scans out: NIfTI, Analyze, DICOM, NRRD and MetaImage are read; NIfTI, NRRD, MetaImage, DICOM-SEG and PNG
panels are written. Nothing is interpolated, and nothing that identifies a patient is kept.
"""

from meddiffusers.data.io.reading import read
from meddiffusers.data.io.writing import write

__all__ = ["read", "write"]
