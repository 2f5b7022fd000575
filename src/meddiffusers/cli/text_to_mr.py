"""`meddiffusers draw`, `meddiffusers evaluate text-to-mr`: images of a text, and how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table
from meddiffusers.utils.seeds import sample_generators

Steps = Annotated[int, typer.Option(min=1, help="Of the scheduler.")]
Scale = Annotated[float, typer.Option(min=1, help="Guidance scale; 1: none.")]
Adapter = Annotated[str | None, typer.Option(help="Folder or repository of a LoRA adapter.")]


def draw(
    repository: Repository,
    prompt: Annotated[str, typer.Argument(help="What the slice shows.")],
    output: Annotated[Path, typer.Argument(help="Folder for NIfTI files and a image.")],
    count: Annotated[int, typer.Option(min=1, help="Slices to draw.")] = 4,
    negative_prompt: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    num_inference_steps: Steps = 20,
    guidance_scale: Scale = 3.0,
    lora: Adapter = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise; slice n has the seed plus n.")] = 0,
    revision: Revision = None,
) -> None:
    """Draw MR slices of a text: slice-N.nii.gz, and all of them in panel.png."""

    from meddiffusers.evaluation.figures.panels import panel

    pipeline = _text_to_mr(repository, revision, lora)
    generators = sample_generators(seed, count)
    images: Any = pipeline(
        prompt,
        negative_prompt=negative_prompt,
        num_images_per_prompt=count,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        generator=generators,
        output_type="nifti",
    ).images
    output.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        image.to_filename(output / f"slice-{number}.nii.gz")
    shown = [image.get_fdata()[:, :, 0].T for image in images]
    panel({"drawn": shown}, ranges={"drawn": (0.0, 1.0)}).save(output / "panel.png")
    console.print(f"{count} slices and panel.png are in {output}")


def evaluate_text_to_mr(
    repository: Repository,
    reader: Annotated[str, typer.Option(help="Folder or repository of the SliceAttributePredictor that judges.")],
    data: Annotated[str, typer.Argument(help="'phantom', or a folder of scans.")] = "phantom",
    data_table: Annotated[str | None, typer.Option("--table", help="Of the folder: a row for each scan.")] = None,
    labels_column: Annotated[str | None, typer.Option(help="Column of label maps.")] = None,
    modality: Annotated[str | None, typer.Option(help="Of all scans, where the table does not tell.")] = None,
    num_inference_steps: Steps = 20,
    guidance_scale: Scale = 3.0,
    max_samples: Annotated[int, typer.Option(min=1, help="Images to draw of each kind, at most.")] = 256,
    lora: Adapter = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise and the intervals.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and images; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Likeness, memory, and whether images show what was asked for, on prompts of held-out slices."""
    from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
    from meddiffusers.evaluation.text_to_mr.report import evaluate_text_to_mr
    from meddiffusers.hub.training_config import recorded_data
    from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

    pipeline = _text_to_mr(repository, revision, lora)
    judge = SliceAttributePredictor.from_pretrained(reader).eval()
    own = {
        "dataset_name": data,
        "table": data_table,
        "labels_column": labels_column,
        "modality": modality,
        "resolution": pipeline.vae_scale_factor * pipeline.unet.config["sample_size"],
        "spacing": pipeline.config["spacing"],
    }
    config = CaptionedDataConfig(**{**recorded_data(repository, revision), **own})
    splits = load_captioned_data(config)
    rows = splits["test"].select(range(min(max_samples, len(splits["test"]))))
    report = evaluate_text_to_mr(
        pipeline,
        judge,
        rows,
        splits["train"],
        dataset=f"{Path(data).name}, held out",
        seed=seed,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )
    figures = [[each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}"] for each in report.metrics]
    console.print(table(("metric", "value", "interval"), *figures))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, images beside them.")


def _text_to_mr(repository: str, revision: str | None, lora: str | None) -> Any:
    """The pipeline of a repository, with an adapter if one is named."""
    from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline

    pipeline: Any = pipeline_of(repository, revision, TextToMRPipeline)
    if lora:
        pipeline.load_lora_weights(lora)
    return pipeline
