"""`meddiffusers demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meddiffusers.cli.console import console, table

if TYPE_CHECKING:
    from meddiffusers.demo.page import Section


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("demo"),
    checkpoints: Annotated[Path, typer.Option(help="Folder of the shipped repositories.")] = Path(
        "examples/checkpoints"
    ),
    scans: Annotated[Path, typer.Option(help="Folder of the shipped scans.")] = Path("examples/scans"),
    num_inference_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Denoising steps of all diffusion models; the default of each model if not given."),
    ] = None,
) -> None:
    """Read the shipped scans, run every shipped model, and write an HTML page with figures and metrics."""
    from meddiffusers.demo.anomaly import anomaly_section
    from meddiffusers.demo.brains import brains_section
    from meddiffusers.demo.cardiac import cardiac_section
    from meddiffusers.demo.digits import digits_section
    from meddiffusers.demo.labelled import labelled_section
    from meddiffusers.demo.page import write_page
    from meddiffusers.demo.scans import scans_section
    from meddiffusers.demo.segmentation import segmentation_section
    from meddiffusers.demo.text_to_mr import text_to_mr_section

    steps = {} if num_inference_steps is None else {"num_inference_steps": num_inference_steps}
    builders = {
        "Scans and phantoms": lambda: scans_section(scans),
        "Segmentation": lambda: segmentation_section(checkpoints, scans, **steps),
        "Anomaly detection": lambda: anomaly_section(checkpoints, scans, **steps),
        "Text to MR": lambda: text_to_mr_section(checkpoints, **steps),
        "Brain volumes": lambda: brains_section(checkpoints, **steps),
        "Images from label maps": lambda: labelled_section(checkpoints, **steps),
        "Cardiac sequences": lambda: cardiac_section(checkpoints, scans),
        "Digits": lambda: digits_section(checkpoints),
    }
    sections = []
    for i, (name, build) in enumerate(builders.items(), start=1):
        console.print(f"{i}/{len(builders)} {name} …", style="bold")
        sections.append(build())
        _summarise(sections[-1])
    console.print(f"The page is {write_page(sections, output)}")


def _summarise(section: Section) -> None:
    """Print the table, the metrics and the time of a section."""
    if section.table:
        console.print(table(*section.table))
    for name, value in section.metrics.items():
        console.print(f"{name}: {value:.3g}")
    console.print(f"done in {section.seconds:.1f} s\n")
