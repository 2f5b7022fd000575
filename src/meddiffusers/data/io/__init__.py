"""Read NIfTI, Analyze, MGH, DICOM, NRRD and MetaImage; write NIfTI, NRRD, MetaImage, DICOM-SEG and PNG panels.

Nothing is interpolated, and no patient identifiers are kept.
"""

from meddiffusers.data.io.reading import read
from meddiffusers.data.io.writing import write

__all__ = ["read", "write"]
