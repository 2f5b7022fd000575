"""`meddiffusers demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meddiffusers.cli.console import console, table


def demo(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("demo"),
    checkpoints: Annotated[Path, typer.Option(help="Folder of the shipped repositories.")] = Path(
        "examples/checkpoints"
    ),
    scans: Annotated[Path, typer.Option(help="Folder of the shipped scans.")] = Path("examples/scans"),
) -> None:
    """Read the shipped scans, run every shipped model once, and write a page of it."""
    from meddiffusers.demo.anomaly import anomaly_section
    from meddiffusers.demo.brains import brains_section
    from meddiffusers.demo.digits import digits_section
    from meddiffusers.demo.hearts import hearts_section
    from meddiffusers.demo.labelled import labelled_section
    from meddiffusers.demo.page import write_page
    from meddiffusers.demo.scans import scans_section
    from meddiffusers.demo.segmentation import segmentation_section
    from meddiffusers.demo.text_to_mr import text_to_mr_section

    sections = [
        scans_section(scans),
        segmentation_section(checkpoints, scans),
        anomaly_section(checkpoints, scans),
        text_to_mr_section(checkpoints),
        brains_section(checkpoints),
        labelled_section(checkpoints),
        hearts_section(checkpoints, scans),
        digits_section(checkpoints),
    ]
    for section in sections:
        console.print(f"{section.title} ({section.seconds:.1f} s)", style="bold")
        if section.table:
            console.print(table(*section.table))
        for name, value in section.metrics.items():
            console.print(f"{name}: {value:.3g}")
    console.print(f"The page is {write_page(sections, output)}")
