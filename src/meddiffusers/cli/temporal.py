"""`meddiffusers repair` and `meddiffusers evaluate temporal`: temporal consistency of cardiac segmentations."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table, wide

if TYPE_CHECKING:
    import numpy as np

    from meddiffusers.data.scan import Scan
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipelineOutput

LABELLED = "patient*_[24]CH*sequence_gt.*"  # label maps in the folder of a CAMUS patient


def repair(
    repository: Repository,
    sequence: Annotated[
        Path, typer.Argument(help="File with label maps over time (NIfTI, MetaImage), or folder of a CAMUS patient.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for label maps, reports, figures and animations.")],
    method: Annotated[
        str, typer.Option(help="'repair' changes only frames that gain by it; 'smooth' regenerates all frames.")
    ] = "repair",
    cyclic: Annotated[
        bool, typer.Option(help="The last frame shows the same phase of the cardiac cycle as the first.")
    ] = False,
    revision: Revision = None,
) -> None:
    """Make a segmented left ventricle valid and consistent in time: labels 1 LV, 2 myocardium, 3 left atrium."""
    from meddiffusers.data.io import read, write
    from meddiffusers.data.modalities import LABELS
    from meddiffusers.evaluation.cardiac.figures import (
        attribute_curves,
        ejection_fraction_line,
        frames_panel,
        save_film,
        with_heading,
    )
    from meddiffusers.evaluation.cardiac.result import summarize_correction
    from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import scan_to_frames
    from meddiffusers.pipelines.temporal_consistency_pipeline import (
        TemporalConsistencyPipeline,
        TemporalConsistencyPipelineOutput,
    )
    from meddiffusers.utils.atomic import write_json

    pipeline = pipeline_of(repository, revision, TemporalConsistencyPipeline)
    paths = sorted(sequence.glob(LABELLED)) if sequence.is_dir() else [sequence]
    paths = [path for path in paths if path.suffix not in (".raw", ".zraw")]
    if not paths:
        raise ValueError(f"{sequence} holds no {LABELLED}; expected a CAMUS patient, or give a file of label maps.")
    scans = {path.name.partition(".")[0]: read(path, modality=LABELS) for path in paths}
    with warnings.catch_warnings():  # they are in the output, and printed below
        warnings.simplefilter("ignore", UserWarning)
        results = {
            name: cast(TemporalConsistencyPipelineOutput, pipeline(scan, method=method, cyclic=cyclic))
            for name, scan in scans.items()
        }
    output.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        rows = {"as segmented": scan_to_frames(scans[name]), "repaired": scan_to_frames(result.labels)}
        attributes = {"as segmented": result.before.attributes, "repaired": result.after.attributes}
        write(result.labels, output / f"{name}_repaired.nii.gz")
        write_json(output / f"{name}.json", summarize_correction(result))
        with_heading(frames_panel(rows, result.regenerated), result).save(output / f"{name}_frames.png")
        with_heading(attribute_curves(attributes), result).save(output / f"{name}_curves.png")
        save_film(rows, output / f"{name}.gif")
    for name, result in results.items():
        for text in result.warnings:
            console.print(f"{name}: {text}", style="bold red")
    console.print(table(*_rows(results)))
    for name, result in results.items():
        console.print(f"{name}: {ejection_fraction_line(result)}")
    if (volumes := _biplane_volumes(scans, results)) is not None:
        _print_biplane(*volumes, cyclic)
    console.print(f"Label maps, reports, figures and animations are in {output}")


def evaluate_temporal(
    repository: Repository,
    dataset: Annotated[
        str, typer.Option("--data", help="'cardiac_phantom', or a CAMUS or TED folder.")
    ] = "cardiac_phantom",
    segmentations: Annotated[
        Path | None,
        typer.Option(
            help="Folder with your own segmentations of the CAMUS folder, one file for each patient and view, such as "
            "patient0001_4CH_half_sequence_pred.nii.gz. They are corrected in place of injected errors."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data, or 'all' of a folder. Default: 'unseen' of the phantom, 'test' of a folder, 'all' "
            "with segmentations."
        ),
    ] = None,
    sequences: Annotated[
        int | None,
        typer.Option(min=1, help="Number of sequences (views). Default: 60 of the phantom, all of a folder."),
    ] = None,
    error_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fraction of frames that get an injected error. Default: 0.15."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the injected errors and of the intervals.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and figures. Default: runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Compare the methods that correct segmentations: ground truth with injected errors, or your own segmentations."""
    from meddiffusers.evaluation.cardiac.published import SOURCE, comparison_rows
    from meddiffusers.evaluation.cardiac.run import INPUT, METHODS, evaluate_repair, evaluate_segmentations
    from meddiffusers.evaluation.cardiac.segmentations import load_segmentations
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

    phantom = not Path(dataset).is_dir()
    _check_sources(dataset, phantom, segmentations, error_rate)
    split = split or ("unseen" if phantom else "all" if segmentations else "test")
    folder = output or Path("runs", "evaluation", Path(repository).name)
    own = load_segmentations(dataset, segmentations, split, sequences) if segmentations else None
    pipeline = pipeline_of(repository, revision, TemporalConsistencyPipeline)
    folder.mkdir(parents=True, exist_ok=True)
    if own:
        report = evaluate_segmentations(pipeline, own, split, seed, folder)
    else:
        count, rate = sequences or (60 if phantom else None), 0.15 if error_rate is None else error_rate
        report = evaluate_repair(pipeline, dataset, split, count, rate, seed, folder)
    rows = [
        (each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}", str(each.n)) for each in report.metrics
    ]
    console.print(table(("metric", "value", "95 %", "N"), *rows))
    if own:
        wide.print(table(*comparison_rows(report, INPUT, list(METHODS))))
        console.print(f"Published: networks of {SOURCE}, before → after its method; not measured here.")
        for note in own.notes:
            console.print(f"note: {note}")
    console.print(f"Metrics are in {folder / 'metrics.json'}, figures and an animation beside them.")


def _check_sources(dataset: str, phantom: bool, segmentations: Path | None, error_rate: float | None) -> None:
    if segmentations and phantom:
        raise ValueError(f"Got --segmentations with --data {dataset}; expected the CAMUS folder that they segment.")
    if segmentations and error_rate is not None:
        raise ValueError("Got --segmentations and --error-rate; expected one: segmentations get no injected errors.")


def _rows(results: dict[str, TemporalConsistencyPipelineOutput]) -> list[tuple[str, ...]]:
    """A title row, and one row for each quantity; a column for each sequence."""
    from meddiffusers.datasets.cardiac_volumes import ed_es_frames
    from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import area_length_volumes

    def column(name: str, result: TemporalConsistencyPipelineOutput) -> tuple[str, ...]:
        before, after = result.before, result.after
        return (
            name,
            str(len(result.regenerated)),
            ", ".join(map(str, result.regenerated.nonzero()[0])) or "none",
            str(result.smoothed.sum() or "none"),
            ", ".join(map(str, result.cleaned.nonzero()[0])) or "none",
            f"{before.inconsistent.sum()} → {after.inconsistent.sum()}",
            f"{before.invalid.sum()} → {after.invalid.sum()}",
            "{}, {}".format(*ed_es_frames(area_length_volumes(after.attributes))),
        )

    names = ("", "frames", "regenerated", "smoothed", "cleaned", "inconsistent frames", "invalid frames", "ED, ES")
    return list(zip(names, *(column(*each) for each in results.items()), strict=True))


def _print_biplane(before: np.ndarray, after: np.ndarray, cyclic: bool) -> None:
    """Print the ejection fractions of volumes `(T,)`, and a warning if the jitter does not explain their change."""
    from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import ejection_fraction
    from meddiffusers.pipelines.meddiffusers_cardiac_ejection_v1 import (
        ejection_fraction_interval,
        ejection_fraction_messages,
    )

    fractions = ejection_fraction(before), ejection_fraction(after)
    interval = ejection_fraction_interval(before, cyclic)
    for text in ejection_fraction_messages(fractions, interval):
        console.print(f"Both views: {text}", style="bold red")
    known = interval[0] == interval[0]  # NaN with few frames
    jitter = f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f} with this jitter)" if known else ""
    first, last = (100 * each for each in fractions)
    console.print(f"Biplane ejection fraction (Simpson's method of discs): {first:.1f} %{jitter} → {last:.1f} %")


def _biplane_volumes(
    scans: dict[str, Scan], results: dict[str, TemporalConsistencyPipelineOutput]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Volumes `(T,)` before and after; None without two views of the same number of frames."""
    from meddiffusers.datasets.cardiac_volumes import biplane_volumes
    from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import frame_spacing, scan_to_frames

    views = {view: name for view in ("4CH", "2CH") for name in results if f"_{view}_" in name}
    if len(views) < 2 or len({len(results[name].regenerated) for name in views.values()}) > 1:
        return None
    spacings = [frame_spacing(scans[name]) for name in views.values()]
    volumes = []
    for label_maps in (scans, {name: result.labels for name, result in results.items()}):
        four, two = (scan_to_frames(label_maps[name]) for name in views.values())
        volumes.append(biplane_volumes(four, spacings[0], two, spacings[1]))
    return volumes[0], volumes[1]
