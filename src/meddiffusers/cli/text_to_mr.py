"""`meddiffusers text-to-mr` and `meddiffusers evaluate text-to-mr`: generate slices from prompts, evaluate a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table
from meddiffusers.utils.seeds import sample_generators

if TYPE_CHECKING:
    from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline

Steps = Annotated[int, typer.Option(min=1, help="Number of denoising steps.")]
Scale = Annotated[float, typer.Option(min=1, help="Scale of classifier-free guidance; 1 turns it off.")]
Adapter = Annotated[str | None, typer.Option(help="Folder or repository of a LoRA adapter.")]


def text_to_mr(
    repository: Repository,
    prompt: Annotated[str, typer.Argument(help="Description of the slice.")],
    output: Annotated[Path, typer.Argument(help="Folder for the NIfTI files and the panel.")],
    num_images: Annotated[int, typer.Option(min=1, help="Number of slices to generate.")] = 4,
    negative_prompt: Annotated[str, typer.Option(help="Description to guide away from.")] = "",
    num_inference_steps: Steps = 20,
    guidance_scale: Scale = 3.0,
    lora: Adapter = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the noise; with a slice's number it determines the slice.")
    ] = 0,
    revision: Revision = None,
) -> None:
    """Generate MR slices from a text prompt: slice-N.nii.gz, and all slices in panel.png."""
    from meddiffusers.evaluation.figures.panels import panel

    pipeline = _text_to_mr(repository, revision, lora)
    images: Any = pipeline(
        prompt,
        negative_prompt=negative_prompt,
        num_images_per_prompt=num_images,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        generator=sample_generators(seed, num_images),
        output_type="nifti",
    ).images
    output.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        image.to_filename(output / f"slice-{i}.nii.gz")
    slices = [image.get_fdata()[:, :, 0].T for image in images]
    panel({"generated": slices}, ranges={"generated": (0.0, 1.0)}).save(output / "panel.png")
    console.print(f"{num_images} slices and panel.png are in {output}")


def evaluate_text_to_mr(
    repository: Repository,
    predictor: Annotated[
        str, typer.Option(help="Folder or repository of the SliceAttributePredictor that measures the images.")
    ],
    data: Annotated[str, typer.Argument(help="'phantom', or a folder of scans.")] = "phantom",
    data_table: Annotated[
        str | None, typer.Option("--table", help="Table with a row for each scan of the folder.")
    ] = None,
    labels_column: Annotated[str | None, typer.Option(help="Column of the table with the label maps.")] = None,
    modality: Annotated[str | None, typer.Option(help="Modality of all scans, if the table has none.")] = None,
    num_inference_steps: Steps = 20,
    guidance_scale: Scale = 3.0,
    max_samples: Annotated[
        int, typer.Option(min=1, help="Largest number of images to generate for each metric.")
    ] = 256,
    lora: Adapter = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise and of the bootstrap intervals.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and the figures; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Evaluate fidelity, memorization and prompt adherence on the prompts of held-out slices."""
    from meddiffusers.datasets.captioned_config import CaptionedDataConfig, load_captioned_data
    from meddiffusers.evaluation.text_to_mr.report import evaluate_text_to_mr
    from meddiffusers.hub.training_config import recorded_data
    from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

    pipeline = _text_to_mr(repository, revision, lora)
    attribute_predictor = SliceAttributePredictor.from_pretrained(predictor).eval()
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
        attribute_predictor,
        rows,
        splits["train"],
        dataset=f"{Path(data).name}, held out",
        seed=seed,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )
    metrics = [[each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}"] for each in report.metrics]
    console.print(table(("metric", "value", "interval"), *metrics))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, figures beside them.")


def _text_to_mr(repository: str, revision: str | None, lora: str | None) -> TextToMRPipeline:
    """Load the pipeline of a repository, with an adapter if one is given."""
    from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline

    pipeline = pipeline_of(repository, revision, TextToMRPipeline)
    if lora:
        pipeline.load_lora_weights(lora)
    return pipeline
