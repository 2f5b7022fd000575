"""`meddiffusers detect` and `meddiffusers evaluate anomaly`: detect anomalies in scans, and evaluate a model."""

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
    typer.Option(help="Guidance towards a healthy image. Default: what the repository supports."),
]
MapFrom = Annotated[
    Literal["residual", "label_contrast"] | None,
    typer.Option(help="Source of the map; by default 'label_contrast' if the model has labels, otherwise 'residual'."),
]
Scale = Annotated[float | None, typer.Option(help="Guidance scale. Default: the pipeline's.")]
Strength = Annotated[float, typer.Option(min=0, max=1, help="How much noise is added; 1 is pure noise.")]
Steps = Annotated[int, typer.Option(min=1, help="Number of steps for adding noise, and again for denoising.")]


def detect(
    repository: Repository,
    subject: Annotated[Path, typer.Argument(help="A scan, a DICOM series, or a folder with one scan per modality.")],
    output: Annotated[
        Path, typer.Argument(help="Output folder for anomaly map, mask, counterfactual and a PNG panel.")
    ],
    modality: Annotated[
        str | None, typer.Option(help="Modality of a single scan, if its file name does not say it.")
    ] = None,
    method: Method = None,
    map_from: MapFrom = None,
    guidance_scale: Scale = None,
    strength: Strength = 0.5,
    num_inference_steps: Steps = 50,
    threshold: Annotated[float | None, typer.Option(help="Threshold of the mask. Default: Otsu's threshold.")] = None,
    revision: Revision = None,
) -> None:
    """Detect anomalies in a subject's scans. Writes NIfTI files on the grid of the scans, and a PNG panel."""
    from meddiffusers.data.io import write
    from meddiffusers.data.io.png_panel import write_panel
    from meddiffusers.data.preprocessing.subject import read_subject

    pipeline = anomaly_pipeline(repository, revision)
    scan = read_subject({modality: subject} if modality else subject, pipeline.modalities)
    settings = _without_none(guidance_scale=guidance_scale, method=method, map_from=map_from)
    result: Any = pipeline(
        scan, strength=strength, num_inference_steps=num_inference_steps, threshold=threshold, **settings
    )
    output.mkdir(parents=True, exist_ok=True)
    maps = {"counterfactual": result.counterfactual, "anomaly": result.anomaly_map, "mask": result.mask}
    for name, map_ in maps.items():
        write(map_, output / f"{name}.nii.gz")
    write_panel(scan, output / "panel.png", labels=result.mask)
    volume = (result.mask.array > 0).sum() * scan.voxel_volume / 1000
    console.print(
        f"Anomalous volume: {volume:.2f} ml. Highest score of {len(result.score)} slices: {result.score.max():.3f}"
    )
    console.print(f"Modalities: {', '.join(scan.modality)}. Mask, maps and panel.png are in {output}")


def evaluate_anomaly(
    repository: Repository,
    data: Annotated[str, typer.Argument(help="'phantom', a BraTS folder, or a data set of images and masks.")],
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = "image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks.")] = "mask",
    method: Method = None,
    map_from: MapFrom = None,
    guidance_scale: Scale = None,
    strength: Strength = 0.5,
    num_inference_steps: Steps = 50,
    max_samples: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only the first images, at most this many.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the baseline's noise and of the intervals.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Output folder for metrics.json and figures. Default: runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Evaluate anomaly detection on held-out images, with 95 % intervals and two baselines."""
    from meddiffusers.datasets.labelled_config import load_test_split_for
    from meddiffusers.evaluation.anomaly.baselines import run_threshold, run_unguided
    from meddiffusers.evaluation.anomaly.report import anomaly_metrics, evaluate_anomaly
    from meddiffusers.evaluation.anomaly.result import run_anomaly
    from meddiffusers.hub.training_config import recorded_data

    pipeline = anomaly_pipeline(repository, revision)
    rows = load_test_split_for(
        pipeline,
        data,
        ["lesion"],
        recorded=recorded_data(repository, revision),
        image_column=image_column,
        mask_column=mask_column,
    )
    rows = rows.select(range(min(max_samples or len(rows), len(rows))))
    steps = {"strength": strength, "num_inference_steps": num_inference_steps}
    chosen = _without_none(guidance_scale=guidance_scale, method=method, map_from=map_from)
    result = run_anomaly(pipeline, rows, seed, **steps, **chosen)
    name = f"{Path(data).name}, held out"
    report = evaluate_anomaly(result, dataset=name, seed=seed)
    others = {"intensity": run_threshold(result), "unguided": run_unguided(pipeline, rows, seed, **steps)}
    baselines = {
        title: {metric.key: metric.value for metric in anomaly_metrics(other, name, seed)}
        for title, other in others.items()
    }
    report = replace(report, details={**report.details, "baselines": baselines})
    lines = [
        [each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}"]
        + [f"{values[each.key]:.4g}" for values in baselines.values()]
        for each in report.metrics
    ]
    console.print(table(("metric", "value", "95 %", *baselines), *lines))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, figures beside them.")


def anomaly_pipeline(repository: str, revision: str | None) -> AnomalyDetectionPipeline:
    """Load the pipeline of a repository."""
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline

    return pipeline_of(repository, revision, AnomalyDetectionPipeline)


def _without_none(**settings: Any) -> dict[str, Any]:
    """Drop settings without a value, which the pipeline chooses."""
    return {name: value for name, value in settings.items() if value is not None}
