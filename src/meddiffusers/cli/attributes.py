"""`meddiffusers evaluate attributes` and `meddiffusers traverse`: AR-VAE models."""

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
        str | None,
        typer.Option(
            "--data",
            help="'digits', 'cardiac_phantom', a CAMUS or ACDC folder, an .npz file of label stacks of ACDC, a folder "
            "of images, or a data set on the Hub; by default the data set that the model was trained with.",
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="Measure of decoded images: 'digits', 'cardiac', 'short_axis' or 'none'; as in training."),
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Edge length of a pixel in mm, for what is measured in mm; as in training.")
    ] = None,
    sequences: Annotated[
        int | None, typer.Option(help="Number of cardiac cycles of 'cardiac_phantom' to train on; as in training.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the images; as in training.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Seed of the split; as in training.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and the figures; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Evaluate disentanglement, reconstruction, traversals and edits on held-out images."""
    from meddiffusers.datasets.attribute_config import AttributeDataConfig, load_attribute_data
    from meddiffusers.datasets.attribute_images import AttributeImages
    from meddiffusers.datasets.attribute_measures import get_measure
    from meddiffusers.evaluation.attributes.report import evaluate_attributes
    from meddiffusers.hub.training_config import recorded_data

    pipeline = _attribute_pipeline(repository, revision)
    given = {
        "dataset_name": dataset,
        "measure": measure,
        "spacing": spacing,
        "cardiac_sequences": sequences,
        "image_column": image_column,
        "split_seed": split_seed,
    }
    settings = {
        **recorded_data(repository, revision),
        **{name: value for name, value in given.items() if value is not None},
        "attributes": list(pipeline.attributes),
        "sample_size": pipeline.vae.image_size[0],
    }
    if settings.get("measure") == "none":
        settings["measure"] = None
    config = AttributeDataConfig(**settings)
    labels = pipeline.vae.config["likelihood"] == "categorical"
    channels = None if labels else pipeline.vae.config["in_channels"]
    images = AttributeImages(load_attribute_data(config)["test"], pipeline.attributes, config.image_column, channels)
    report = evaluate_attributes(
        pipeline,
        images.images,
        images.attributes,
        get_measure(config.measure, config.spacing) if config.measure else None,
        dataset=f"{Path(config.dataset_name).name}, held out",
    )
    rows = [(metric.name, f"{metric.value:.4g}", str(metric.n)) for metric in report.metrics]
    console.print(table(("metric", "value", "N"), *rows))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, figures beside them.")


def traverse(
    repository: Repository,
    image: Annotated[Path, typer.Argument(help="Image file of the size that the model expects.")],
    attribute: Annotated[str, typer.Argument(help="Attribute to vary.")],
    steps: Annotated[int, typer.Option(min=2, help="Number of images.")] = 9,
    output: Annotated[Path, typer.Option(help="PNG panel to write.")] = Path("traverse.png"),
    revision: Revision = None,
) -> None:
    """Vary one attribute of an image over its calibrated range."""
    import numpy as np
    import PIL.Image

    from meddiffusers.evaluation.figures.panels import panel

    pipeline = _attribute_pipeline(repository, revision)
    curve = pipeline.vae.calibration_of(attribute)
    values = np.linspace(curve["values"][0], curve["values"][-1], steps)
    with PIL.Image.open(image) as opened:
        images = np.asarray(pipeline.traverse(opened, attribute, steps=steps, output_type="np").images)
    panel({attribute: list(images)}, {attribute: [f"{value:.3g} {curve['unit']}" for value in values]}).save(output)
    console.print(f"The panel is {output}")


def _attribute_pipeline(repository: str, revision: str | None) -> AttributeVAEPipeline:
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

    pipeline = pipeline_of(repository, revision, (AttributeVAEPipeline, TemporalConsistencyPipeline))
    return AttributeVAEPipeline.from_pipe(pipeline)
