"""Published results of temporal consistency, to print beside measured ones: Painchaud et al., IEEE TMI 2022.

Each network is listed before and after the paper's method, on 98 full cardiac cycles of TED (4,531 frames). The values
were not measured with this package and stand in no report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from meddiffusers.evaluation.cardiac.report import NAMES
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import metric_key

SOURCE = "Painchaud et al., IEEE TMI 2022, arXiv 2112.02102"
SEQUENCES, FRAMES = 98, 4531

# (before, after) by the keys of `report.NAMES`
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "CLAS": {
            "inconsistent_sequences": (68 / SEQUENCES, 0),
            "consistency_ratio": (0.211, 0.069),
            "dice": (0.953, 0.952),
            "hausdorff_distance": (4.4, 4.0),
            "ef_error": (4.2, 4.0),
            "invalid_frames": (6 / FRAMES, 0),
        },
        "DeepLabv3": {
            "inconsistent_sequences": (98 / SEQUENCES, 1 / SEQUENCES),
            "consistency_ratio": (0.879, 0.125),
            "dice": (0.946, 0.951),
            "hausdorff_distance": (4.8, 4.2),
            "ef_error": (2.8, 3.6),
            "invalid_frames": (12 / FRAMES, 0),
        },
        "U-Net": {
            "inconsistent_sequences": (98 / SEQUENCES, 0),
            "consistency_ratio": (0.562, 0.110),
            "dice": (0.951, 0.955),
            "hausdorff_distance": (4.3, 3.9),
            "ef_error": (2.7, 3.8),
            "invalid_frames": (1 / FRAMES, 0),
        },
    }
)


def comparison_rows(report: Report, before: str, methods: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of a table with a title: each method's values before and after, then the published ones.

    Args:
        report: Metrics of `evaluate_temporal`.
        before: Method of the uncorrected input.
        methods: Methods that correct it.
    """
    keys = list(next(iter(PUBLISHED.values())))
    values = report.values
    measured = {
        method: {key: (values[metric_key(key, before)], values[metric_key(key, method)]) for key in keys}
        for method in methods
    }
    number = report.metric(metric_key(keys[0], before)).n
    rows = [("", "sequences", *(NAMES[key] for key in keys))]
    for names, count, prefix in ((measured, number, "measured"), (PUBLISHED, SEQUENCES, "published")):
        rows += [
            (f"{prefix}: {name}", str(count), *("{:.3g} → {:.3g}".format(*each[key]) for key in keys))
            for name, each in names.items()
        ]
    return rows
