"""`meddiffusers detect`, `meddiffusers evaluate anomaly`: what is not healthy in scans, and how good a model is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table

if TYPE_CHECKING:
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline

Method = Annotated[
    Literal["classifier", "classifier_free", "none"] | None,
    typer.Option(help="What leads to a healthy image; by default what the repository has."),
]
MapFrom = Annotated[
    Literal["residual", "label_contrast"] | None,
    typer.Option(help="Source of the map; by default 'label_contrast' if the model has labels, otherwise 'residual'."),
]
Scale = Annotated[float | None, typer.Option(help="Guidance scale; by default the pipeline's.")]
Strength = Annotated[float, typer.Option(min=0, max=1, help="How far towards noise a image goes.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps to the noise, and as many back.")]


def detect(
    repository: Repository,
    subject: Annotated[Path, typer.Argument(help="A scan, a DICOM series, or a folder with one scan a modality.")],
    output: Annotated[Path, typer.Argument(help="Folder for map, mask, counterfactual and a image.")],
    modality: Annotated[str | None, typer.Option(help="What a single scan is, where its name does not tell.")] = None,
    method: Method = None,
    map_from: MapFrom = None,
    guidance_scale: Scale = None,
    strength: Strength = 0.5,
    num_inference_steps: Steps = 50,
    threshold: Annotated[float | None, typer.Option(help="Of the mask; by default Otsu's.")] = None,
    revision: Revision = None,
) -> None:
    """Find what is not healthy in a subject's scans: NIfTI files on the voxels of the scans, and a PNG panel."""
    from meddiffusers.data.io import write
    from meddiffusers.data.io.png_panel import write_panel
    from meddiffusers.data.preprocessing.subject import read_subject

    pipeline = anomaly_pipeline(repository, revision)
    scan = read_subject({modality: subject} if modality else subject, pipeline.modalities)
    settings = _given(guidance_scale=guidance_scale, method=method, map_from=map_from)
    result: Any = pipeline(
        scan, strength=strength, num_inference_steps=num_inference_steps, threshold=threshold, **settings
    )
    output.mkdir(parents=True, exist_ok=True)
    maps = {"counterfactual": result.counterfactual, "anomaly": result.anomaly_map, "mask": result.mask}
    for name, map_ in maps.items():
        write(map_, output / f"{name}.nii.gz")
    write_panel(scan, output / "panel.png", labels=result.mask)
    marked = (result.mask.array > 0).sum() * scan.voxel_volume / 1000
    console.print(
        f"Marked: {marked:.2f} ml. Score: {result.score.max():.3f} (the highest of {len(result.score)} slices)"
    )
    console.print(f"Seen: {', '.join(scan.modality)}. Mask, maps and panel.png are in {output}")


def evaluate_anomaly(
    repository: Repository,
    data: Annotated[str, typer.Argument(help="'phantom', a BraTS 2020 folder, or a data set of images and masks.")],
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = "image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks.")] = "mask",
    method: Method = None,
    map_from: MapFrom = None,
    guidance_scale: Scale = None,
    strength: Strength = 0.5,
    num_inference_steps: Steps = 50,
    max_samples: Annotated[int | None, typer.Option(min=1, help="Look at the first so many images only.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the baseline's noise and the intervals.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and images; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Detection of pixels and slices on held-out images, with 95 % intervals, beside two simple baselines."""
    from meddiffusers.datasets.labelled_config import test_split_for
    from meddiffusers.evaluation.anomaly.baselines import run_threshold, run_unguided
    from meddiffusers.evaluation.anomaly.report import anomaly_metrics, evaluate_anomaly
    from meddiffusers.evaluation.anomaly.result import run_anomaly
    from meddiffusers.hub.training_config import recorded_data

    pipeline = anomaly_pipeline(repository, revision)
    rows = test_split_for(
        pipeline,
        data,
        ["lesion"],
        recorded=recorded_data(repository, revision),
        image_column=image_column,
        mask_column=mask_column,
    )
    rows = rows.select(range(min(max_samples or len(rows), len(rows))))
    steps = {"strength": strength, "num_inference_steps": num_inference_steps}
    chosen = _given(guidance_scale=guidance_scale, method=method, map_from=map_from)
    result = run_anomaly(pipeline, rows, seed, **steps, **chosen)
    name = f"{Path(data).name}, held out"
    report = evaluate_anomaly(result, dataset=name, seed=seed)
    others = {"intensity": run_threshold(result), "unguided": run_unguided(pipeline, rows, seed, **steps)}
    found = {
        title: {metric.name: metric.value for metric in anomaly_metrics(other, name, seed)}
        for title, other in others.items()
    }
    report = replace(report, details={**report.details, "baselines": found})
    figures = [
        [each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}"]
        + [f"{values[each.name]:.4g}" for values in found.values()]
        for each in report.metrics
    ]
    console.print(table(("metric", "value", "95 %", *found), *figures))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, images beside them.")


def anomaly_pipeline(repository: str, revision: str | None) -> AnomalyDetectionPipeline:
    """The pipeline of a repository."""
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline

    return pipeline_of(repository, revision, AnomalyDetectionPipeline)


def _given(**settings: Any) -> dict[str, Any]:
    """Without those that were left to the pipeline."""
    return {name: value for name, value in settings.items() if value is not None}
