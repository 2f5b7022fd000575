"""Public data sets as they are downloaded, and users' own scans; each loader returns a `datasets.DatasetDict`."""

from meddiffusers.datasets.public.acdc import acdc
from meddiffusers.datasets.public.brats import brats
from meddiffusers.datasets.public.camus import camus
from meddiffusers.datasets.public.errors import DatasetError
from meddiffusers.datasets.public.ibsr import ibsr18
from meddiffusers.datasets.public.ixi import ixi
from meddiffusers.datasets.public.kirby import kirby21
from meddiffusers.datasets.public.mednist import mednist
from meddiffusers.datasets.public.oasis1 import oasis1
from meddiffusers.datasets.public.oasis3 import oasis3
from meddiffusers.datasets.public.scans import load_scans

__all__ = [
    "DatasetError",
    "acdc",
    "brats",
    "camus",
    "ibsr18",
    "ixi",
    "kirby21",
    "load_scans",
    "mednist",
    "oasis1",
    "oasis3",
]
