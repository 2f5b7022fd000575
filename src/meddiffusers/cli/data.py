"""`meddiffusers data …`: inspect and convert scans, and generate phantoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from meddiffusers.cli.console import console, errors, table, wide

if TYPE_CHECKING:
    from meddiffusers.data.inspection import Inspection

data = typer.Typer(no_args_is_help=True, help="Inspect and convert scans, and generate phantoms.")

Layout = Literal["brats", "ixi", "oasis1", "ibsr", "camus", "low-field"]
MOST = {"ixi": 999, "oasis1": 9999, "ibsr": 99, "camus": 999}  # highest subject number in the file names
FEW = 4  # labels shown in a row of the table


@data.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A scan, a DICOM series, or a folder with scans at any depth.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the images; by default runs/inspection/NAME.")] = None,
    images: Annotated[int, typer.Option(min=0, help="Largest number of scans to render as images.")] = 20,
) -> None:
    """Show what scans are, and all issues, and render them as images; exit status 1 if there are issues."""
    from meddiffusers.data.inspection import label_names, with_folder_issues
    from meddiffusers.data.io.scan_search import find_scans

    path = path.resolve()
    paths = find_scans(path)
    if not paths:
        raise ValueError(f"{path}: no scan in it or below it; expected NIfTI, Analyze, NRRD, MetaImage or DICOM files.")
    folder = output or Path("runs", "inspection", path.name)
    base = path if path.is_dir() and paths != [path] else path.parent
    inspections = with_folder_issues(_inspected(paths, base, folder, images))
    header = (
        "scan",
        "format",
        "voxels",
        "mm",
        "axes",
        "type",
        "range",
        "1–99 %",
        "modality",
        "labels [ml]",
        "recognized by",
    )
    wide.print(table(header, *(_row(each, base) for each in inspections)))
    if len(inspections) == 1 and inspections[0].labels:
        names, labels = label_names(inspections[0].labels), inspections[0].labels.items()
        console.print(
            table(("label", "name", "ml"), *((str(label), names[label], f"{ml:.2f}") for label, ml in labels))
        )
    for note in [f"note: {_name(each.path, base)}: {note}" for each in inspections for note in each.notes]:
        console.print(note)
    issues = [f"issue: {_name(each.path, base)}: {issue}" for each in inspections for issue in each.issues]
    for issue in issues:
        console.print(issue)
    rendered = min(images, sum(each.channels > 0 for each in inspections))
    console.print(f"{len(inspections)} scan(s), {len(issues)} issue(s). {rendered} image(s) in {folder}")
    raise typer.Exit(bool(issues))


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A scan of any supported format, or the folder of a DICOM series.")],
    target: Annotated[Path, typer.Argument(help="The file to write; its suffix selects the format.")],
    series: Annotated[
        Path | None, typer.Option(help="For a DICOM segmentation (.dcm): the series that is segmented.")
    ] = None,
    volume: Annotated[
        int | None, typer.Option(min=0, help="Number of the volume, from 0, of an enhanced DICOM file with several.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the target.")] = False,
) -> None:
    """Convert a scan to another format; voxels and geometry are kept."""
    import numpy as np

    from meddiffusers.data.inspection import label_names
    from meddiffusers.data.io import read, write

    if target.exists() and not force:
        raise ValueError(f"{target} exists; expected a new file. Give --force to overwrite it.")
    scan = read(source, volume=volume)
    names = label_names(np.unique(scan.array).tolist()) if series else None
    written = write(scan, target, series=series, names=names)
    console.print(f"{source} → {written}: {_voxels(scan.shape, len(scan.array))}")


@data.command()
def phantom(
    output: Annotated[Path, typer.Argument(help="The folder to write, new or empty.")],
    layout: Annotated[
        Layout, typer.Option(help="Folder layout to write; low-field: simulated low-field scans with a table.")
    ] = "brats",
    n: Annotated[int, typer.Option("--n", min=1, help="Number of subjects.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subjects.")] = 0,
) -> None:
    """Generate phantoms in the folder layout of a public data set, so that its loader can read them."""
    from rich.progress import track

    from meddiffusers.data import layouts
    from meddiffusers.data.phantoms.brain import population

    first = seed * n + 1 if layout == "camus" else 1  # the number of a cardiac phantom is its seed
    last = first + n - 1
    if last > MOST.get(layout, last):
        raise ValueError(
            f"Got --n {n} and --seed {seed}: subjects {first} to {last}; the layout of {layout} has names for at most "
            f"{MOST[layout]}. Give smaller values, or another layout."
        )
    if layout == "camus":
        written = layouts.write_camus(range(first, last + 1), output)
    else:
        make, write_layout = {
            "brats": (population.brats_subjects, layouts.write_brats),
            "ixi": (population.ixi_subjects, layouts.write_ixi),
            "oasis1": (population.oasis1_subjects, layouts.write_oasis1),
            "ibsr": (population.ibsr_subjects, layouts.write_ibsr),
            "low-field": (population.low_field_subjects, layouts.write_own),
        }[layout]
        subjects = track(make(n, seed), f"Generating {layout}", total=n, console=errors, transient=True)
        written = write_layout(subjects, output)
    console.print(f"{n} phantom(s) in the layout of {layout} are in {written}")


def _inspected(paths: Sequence[Path], base: Path, folder: Path, images: int) -> Iterator[Inspection]:
    """Yield one inspection per path; the first readable scans are rendered as images."""
    from rich.progress import track

    from meddiffusers.data.inspection import inspect_scan
    from meddiffusers.data.io import write

    for path in track(paths, "Inspecting", console=errors, transient=True, disable=len(paths) == 1):
        inspection, scan = inspect_scan(path)
        if scan is not None and images > 0:
            write(scan, folder / f"{_name(path, base).replace('/', '_')}.png")
            images -= 1
        yield inspection


def _row(each: Inspection, base: Path) -> tuple[str, ...]:
    labels = [f"{label}: {ml:.1f}" for label, ml in each.labels.items()]
    return (
        _name(each.path, base),
        each.format,
        _voxels(each.shape, each.channels) if each.channels else "",
        "×".join(f"{length:.3g}" for length in each.spacing) if each.channels else "",
        each.orientation,
        each.dtype,
        _between(each.range),
        _between(each.percentiles),
        each.modality,
        ", ".join(labels[:FEW]) + (f" and {len(labels) - FEW} more" if len(labels) > FEW else ""),
        each.modality_from,
    )


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _voxels(shape: Sequence[int], channels: int) -> str:
    return "×".join(map(str, shape)) + (f", {channels} channels" if channels > 1 else "")


def _between(ends: tuple[float, float] | None) -> str:
    return f"{ends[0]:.5g} to {ends[1]:.5g}" if ends else ""
