"""`meddiffusers repair`, `meddiffusers evaluate temporal`: sequences of a segmented heart, made valid and steady."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table

LABELLED = "patient*_[24]CH*sequence_gt.*"  # of a CAMUS patient's folder


def repair(
    repository: Repository,
    sequence: Annotated[Path, typer.Argument(help="Label maps over time (NIfTI, MetaImage), or a CAMUS patient.")],
    output: Annotated[Path, typer.Argument(help="Folder for label maps, reports, curves and films.")],
    method: Annotated[str, typer.Option(help="'repair': only what is wrong; 'smooth': all frames.")] = "repair",
    cyclic: Annotated[bool, typer.Option(help="The last frame shows the heart as the first did.")] = False,
    revision: Revision = None,
) -> None:
    """Repair a segmented left ventricle over time: labels 1 cavity, 2 wall, 3 left atrium."""
    from meddiffusers.data.io import read, write
    from meddiffusers.data.modalities import LABELS
    from meddiffusers.evaluation.cardiac.figures import curves, film, frames_panel
    from meddiffusers.evaluation.cardiac.result import repair_facts
    from meddiffusers.pipelines.meddiffusers_heart_scans_v1 import frames_of
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline
    from meddiffusers.utils.atomic import write_json

    pipeline: Any = pipeline_of(repository, revision, TemporalConsistencyPipeline)
    paths = sorted(sequence.glob(LABELLED)) if sequence.is_dir() else [sequence]
    paths = [path for path in paths if path.suffix not in (".raw", ".zraw")]
    if not paths:
        raise ValueError(f"{sequence} holds no {LABELLED}; expected a CAMUS patient, or give a file of label maps.")
    scans = {path.name.partition(".")[0]: read(path, modality=LABELS) for path in paths}
    results = {name: pipeline(scan, method=method, cyclic=cyclic) for name, scan in scans.items()}
    output.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        rows = {"as segmented": frames_of(scans[name]), "repaired": frames_of(result.labels)}
        write(result.labels, output / f"{name}_repaired.nii.gz")
        write_json(output / f"{name}.json", repair_facts(result))
        frames_panel(rows, result.redrawn).save(output / f"{name}_frames.png")
        curves({"as segmented": result.before.attributes, "repaired": result.after.attributes}).save(
            output / f"{name}_curves.png"
        )
        film(rows, output / f"{name}.gif")
    console.print(table(*_figures(results)))
    if (fractions := _biplane(scans, results)) is not None:
        console.print("Ejection fraction of both views, Simpson's discs: {:.1f} → {:.1f} %".format(*fractions))
    console.print(f"Label maps, reports, images and films are in {output}")


def evaluate_temporal(
    repository: Repository,
    dataset: Annotated[str, typer.Option("--data", help="'hearts', or a CAMUS folder.")] = "hearts",
    split: Annotated[str, typer.Option(help="Of the data.")] = "unseen",
    sequences: Annotated[int, typer.Option(min=1, help="So many views.")] = 60,
    error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the frames that an error is put into.")
    ] = 0.15,
    seed: Annotated[int, typer.Option(min=0, help="Of those errors.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and images; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Errors put into true label maps, and what is left of them: beside smoothing, the paper's method among it."""
    from meddiffusers.evaluation.cardiac.run import evaluate_repair
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

    pipeline: Any = pipeline_of(repository, revision, TemporalConsistencyPipeline)
    folder = output or Path("runs", "evaluation", Path(repository).name)
    folder.mkdir(parents=True, exist_ok=True)
    report = evaluate_repair(pipeline, dataset, split, sequences, error_rate, seed, folder)
    rows = [
        (each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}", str(each.n)) for each in report.metrics
    ]
    console.print(table(("metric", "value", "95 %", "N"), *rows))
    console.print(f"Metrics are in {folder / 'metrics.json'}, images and a film beside them.")


def _figures(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each sequence."""
    from meddiffusers.datasets.cardiac_volumes import key_frames
    from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import area_length_volumes

    title = ("sequence", "frames", "drawn anew", "tidied", "inconsistent", "invalid", "ED, ES", "EF, %")
    rows: list[tuple[str, ...]] = [title]
    for name, result in results.items():
        before, after = result.before, result.after
        rows.append(
            (
                name,
                str(len(result.redrawn)),
                ", ".join(map(str, result.redrawn.nonzero()[0])) or "none",
                ", ".join(map(str, result.tidied.nonzero()[0])) or "none",
                f"{before.inconsistent.sum()} → {after.inconsistent.sum()}",
                f"{before.invalid.sum()} → {after.invalid.sum()}",
                "{}, {}".format(*key_frames(area_length_volumes(after.attributes))),
                f"{100 * before.ejection_fraction:.1f} → {100 * after.ejection_fraction:.1f}",
            )
        )
    return rows


def _biplane(scans: dict[str, Any], results: dict[str, Any]) -> tuple[float, float] | None:
    """Ejection fractions before and after, in percent, where there are both views with as many frames."""
    from meddiffusers.datasets.cardiac_volumes import biplane_volumes
    from meddiffusers.pipelines.meddiffusers_heart_scans_v1 import frames_of, spacing_of
    from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import ejection_fraction

    views = {view: name for view in ("4CH", "2CH") for name in results if f"_{view}_" in name}
    if len(views) < 2 or len({len(results[name].redrawn) for name in views.values()}) > 1:
        return None
    edges = [spacing_of(scans[name]) for name in views.values()]
    found = []
    for of in (scans, {name: result.labels for name, result in results.items()}):
        four, two = (frames_of(of[name]) for name in views.values())
        found.append(100 * ejection_fraction(biplane_volumes(four, edges[0], two, edges[1])))
    return found[0], found[1]
