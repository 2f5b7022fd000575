"""Writers for the folder layouts of public data sets, so that their loaders can read phantoms."""

from meddiffusers.data.layouts.brats import write_brats
from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.layouts.ibsr import write_ibsr
from meddiffusers.data.layouts.ixi import write_ixi
from meddiffusers.data.layouts.oasis import write_oasis1
from meddiffusers.data.layouts.own import write_own

__all__ = ["write_brats", "write_camus", "write_ibsr", "write_ixi", "write_oasis1", "write_own"]
