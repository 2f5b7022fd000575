"""`meddiffusers segment` and `meddiffusers evaluate segmentation`: segment scans, and evaluate a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table

if TYPE_CHECKING:
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline

Steps = Annotated[int, typer.Option(min=1, help="Denoising steps.")]
Members = Annotated[int, typer.Option(min=1, help="Samples of the ensemble.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the noise.")]
Lora = Annotated[str | None, typer.Option(help="Folder or repository of a LoRA adapter.")]


def segment(
    repository: Repository,
    subject: Annotated[Path, typer.Argument(help="A scan, a DICOM series, or a folder with one scan per modality.")],
    output: Annotated[
        Path, typer.Argument(help="Output folder for mask, probability, uncertainty maps and a PNG panel.")
    ],
    modality: Annotated[
        str | None, typer.Option(help="Modality of a single scan, if its file name does not say it.")
    ] = None,
    num_inference_steps: Steps = 10,
    ensemble_size: Members = 5,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Foreground probability above which a voxel is segmented.")
    ] = 0.5,
    seed: Seed = 0,
    lora: Lora = None,
    revision: Revision = None,
) -> None:
    """Segment a subject's scans. Writes NIfTI files on the grid of the scans, and a PNG panel."""
    import torch

    from meddiffusers.data.io import write
    from meddiffusers.data.io.png_panel import write_panel
    from meddiffusers.data.preprocessing.subject import read_subject

    pipeline = segmentation_pipeline(repository, revision, lora)
    scan = read_subject({modality: subject} if modality else subject, pipeline.modalities)
    result = pipeline(
        scan,
        num_inference_steps=num_inference_steps,
        ensemble_size=ensemble_size,
        threshold=threshold,
        generator=torch.Generator().manual_seed(seed),
    )
    output.mkdir(parents=True, exist_ok=True)
    for name, map_ in {"mask": result.mask, "probability": result.probability, **result.uncertainty}.items():
        write(map_, output / f"{name}.nii.gz")
    write_panel(scan, output / "panel.png", labels=result.mask)
    ml = {
        name: (result.mask.array == label).sum() * scan.voxel_volume / 1000 for label, name in pipeline.id2label.items()
    }
    rows = [(name, f"{volume:.2f}") for name, volume in list(ml.items())[1:]]
    console.print(table(("label", "ml"), *rows))
    console.print(f"Modalities: {', '.join(scan.modality)}. Mask, maps and panel.png are in {output}")


def evaluate_segmentation(
    repository: Repository,
    data: Annotated[str, typer.Argument(help="'phantom', a BraTS folder, or a data set of images and masks.")],
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = "image",
    mask_column: Annotated[str, typer.Option(help="Column of the masks.")] = "mask",
    num_inference_steps: Steps = 10,
    ensemble_size: Members = 5,
    max_samples: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only the first images, at most this many.")
    ] = None,
    seed: Seed = 0,
    lora: Lora = None,
    output: Annotated[
        Path | None, typer.Option(help="Output folder for metrics.json and figures. Default: runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Evaluate segmentation on held-out images: overlap, calibration and uncertainty, with 95 % intervals."""
    from meddiffusers.datasets.labelled_config import load_test_split_for
    from meddiffusers.evaluation.segmentation.report import evaluate_segmentation
    from meddiffusers.evaluation.segmentation.run import run_segmentation
    from meddiffusers.hub.training_config import recorded_data

    pipeline = segmentation_pipeline(repository, revision, lora)
    labels = list(pipeline.id2label.values())[1:]
    rows = load_test_split_for(
        pipeline,
        data,
        labels,
        recorded=recorded_data(repository, revision),
        image_column=image_column,
        mask_column=mask_column,
    )
    rows = rows.select(range(min(max_samples or len(rows), len(rows))))
    result = run_segmentation(
        pipeline, rows, num_inference_steps=num_inference_steps, ensemble_size=ensemble_size, seed=seed
    )
    report = evaluate_segmentation(result, dataset=f"{Path(data).name}, held out", seed=seed)
    lines = [
        (each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}", str(each.n)) for each in report.metrics
    ]
    console.print(table(("metric", "value", "95 %", "N"), *lines))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, figures beside them.")


def segmentation_pipeline(repository: str, revision: str | None, lora: str | None) -> ConditionalSegmentationPipeline:
    """Load the pipeline of a repository, with an adapter if one is given."""
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline

    pipeline = pipeline_of(repository, revision, ConditionalSegmentationPipeline)
    if lora:
        pipeline.load_lora_weights(lora)
    return pipeline
