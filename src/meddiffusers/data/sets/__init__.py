"""Data sets as they are downloaded, each a function that returns a `datasets.DatasetDict`."""

from meddiffusers.data.sets.brats import brats2020
from meddiffusers.data.sets.camus import camus
from meddiffusers.data.sets.faults import ScanFaults
from meddiffusers.data.sets.ibsr import ibsr18
from meddiffusers.data.sets.ixi import ixi
from meddiffusers.data.sets.kirby import kirby21
from meddiffusers.data.sets.mednist import mednist
from meddiffusers.data.sets.oasis1 import oasis1
from meddiffusers.data.sets.oasis3 import oasis3
from meddiffusers.data.sets.scans import load_scans

__all__ = [
    "ScanFaults",
    "brats2020",
    "camus",
    "ibsr18",
    "ixi",
    "kirby21",
    "load_scans",
    "mednist",
    "oasis1",
    "oasis3",
]
