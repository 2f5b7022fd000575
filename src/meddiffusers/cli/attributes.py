"""`meddiffusers evaluate attributes` and `traverse`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table

if TYPE_CHECKING:
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline


def evaluate_attribute_model(
    repository: Repository,
    dataset: Annotated[
        str, typer.Option("--data", help="'digits', 'hearts', a folder of images, or a data set of the Hub.")
    ] = "digits",
    measure: Annotated[
        str, typer.Option(help="What measures decoded images: 'digits', 'hearts', or 'none'.")
    ] = "digits",
    spacing: Annotated[float, typer.Option(help="Edge length of a pixel in mm, for what is measured in mm.")] = 1.0,
    sequences: Annotated[int, typer.Option(help="Beats of phantoms that 'hearts' has to train on.")] = 100,
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = "image",
    split_seed: Annotated[int, typer.Option(help="Seed of the split; the one the model was trained with.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and images; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Disentanglement, reconstruction, traversal and edit errors on held-out images."""
    from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
    from meddiffusers.datasets.attribute_measures import get_measure
    from meddiffusers.evaluation.attributes.report import evaluate_attributes

    pipeline = _attribute_pipeline(repository, revision)
    measured_by = None if measure == "none" else measure
    splits = load_attribute_images(
        dataset,
        attributes=pipeline.attributes,
        measure=measured_by,
        image_column=image_column,
        seed=split_seed,
        size=pipeline.vae.image_size[0],
        spacing=spacing,
        sequences=sequences,
    )
    labels = pipeline.vae.config["likelihood"] == "categorical"
    images = AttributeImages(splits["test"], pipeline.attributes, image_column, labels)
    report = evaluate_attributes(
        pipeline,
        images.images,
        images.attributes,
        get_measure(measured_by, spacing) if measured_by else None,
        dataset=f"{dataset}, held out",
    )
    rows = [(metric.name, f"{metric.value:.4g}", str(metric.n)) for metric in report.metrics]
    console.print(table(("metric", "value", "N"), *rows))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, images beside them.")


def traverse(
    repository: Repository,
    image: Annotated[Path, typer.Argument(help="An image file of the size the model takes.")],
    attribute: Annotated[str, typer.Argument(help="The attribute to sweep.")],
    steps: Annotated[int, typer.Option(min=2, help="Images in the sweep.")] = 9,
    output: Annotated[Path, typer.Option(help="The PNG panel to write.")] = Path("traverse.png"),
    revision: Revision = None,
) -> None:
    """Sweep one attribute of an image over its calibrated range."""
    import numpy as np
    import PIL.Image

    from meddiffusers.evaluation.figures.panels import panel

    pipeline = _attribute_pipeline(repository, revision)
    curve = pipeline.vae.calibration_of(attribute)
    asked = np.linspace(curve["values"][0], curve["values"][-1], steps)
    with PIL.Image.open(image) as opened:
        images = np.asarray(pipeline.traverse(opened, attribute, steps=steps, output_type="np").images)
    panel({attribute: list(images)}, {attribute: [f"{value:.3g} {curve['unit']}" for value in asked]}).save(output)
    console.print(f"The panel is {output}")


def _attribute_pipeline(repository: str, revision: str | None) -> AttributeVAEPipeline:
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

    pipeline = pipeline_of(repository, revision, (AttributeVAEPipeline, TemporalConsistencyPipeline))
    return AttributeVAEPipeline.from_pipe(pipeline)
