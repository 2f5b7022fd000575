"""`meddiffusers …`: look at, evaluate and publish repositories from the command line.

Heavy imports stand inside the commands, so that `--help` waits for no more than diffusers itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from meddiffusers.cli.anomaly import detect, evaluate_anomaly
from meddiffusers.cli.console import console, errors, table
from meddiffusers.cli.convert import convert
from meddiffusers.cli.data import data
from meddiffusers.cli.generation import generate
from meddiffusers.cli.latent_diffusion import evaluate_ldm
from meddiffusers.cli.repositories import Repository, Revision, pipeline_of
from meddiffusers.cli.segmentation import evaluate_segmentation, segment
from meddiffusers.cli.temporal import evaluate_temporal, repair
from meddiffusers.cli.text_to_mr import draw, evaluate_text_to_mr

if TYPE_CHECKING:
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline

app = typer.Typer(no_args_is_help=True, help="Generative models for medical imaging.", pretty_exceptions_enable=False)
evaluate = typer.Typer(no_args_is_help=True, help="Measure a repository's model on held-out data.")
card = typer.Typer(no_args_is_help=True, help="Write and check model cards.")
app.add_typer(evaluate, name="evaluate")
app.add_typer(card, name="card")
app.add_typer(convert, name="convert")
app.add_typer(data, name="data")
app.command()(segment)
app.command()(detect)
evaluate.command("segmentation")(evaluate_segmentation)
evaluate.command("anomaly")(evaluate_anomaly)
app.command()(draw)
app.command()(generate)
evaluate.command("ldm")(evaluate_ldm)
evaluate.command("text-to-mr")(evaluate_text_to_mr)
app.command()(repair)
evaluate.command("temporal")(evaluate_temporal)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("demo"),
    checkpoints: Annotated[Path, typer.Option(help="Folder of the shipped repositories.")] = Path(
        "examples/checkpoints"
    ),
    scans: Annotated[Path, typer.Option(help="Folder of the shipped scans.")] = Path("examples/scans"),
) -> None:
    """Read the shipped scans, run every shipped model once, and write a page of it."""
    from meddiffusers.demo.anomaly import anomaly_section
    from meddiffusers.demo.brains import brains_section
    from meddiffusers.demo.digits import digits_section
    from meddiffusers.demo.hearts import hearts_section
    from meddiffusers.demo.labelled import labelled_section
    from meddiffusers.demo.page import write_page
    from meddiffusers.demo.scans import scans_section
    from meddiffusers.demo.segmentation import segmentation_section
    from meddiffusers.demo.text_to_mr import text_to_mr_section

    sections = [
        scans_section(scans),
        segmentation_section(checkpoints, scans),
        anomaly_section(checkpoints, scans),
        text_to_mr_section(checkpoints),
        brains_section(checkpoints),
        labelled_section(checkpoints),
        hearts_section(checkpoints, scans),
        digits_section(checkpoints),
    ]
    for section in sections:
        console.print(f"{section.title} ({section.seconds:.1f} s)", style="bold")
        if section.table:
            console.print(table(*section.table))
        for name, value in section.metrics.items():
            console.print(f"{name}: {value:.3g}")
    console.print(f"The page is {write_page(sections, output)}")


@evaluate.command("attributes")
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
        Path | None, typer.Option(help="Folder for metrics.json and pictures; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Disentanglement, reconstruction, traversal and edit errors on held-out images."""
    from meddiffusers.data.attribute_images import AttributeImages, load_attribute_images
    from meddiffusers.data.measures import measure_named
    from meddiffusers.evaluation.attribute_report import evaluate_attributes

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
        measure_named(measured_by, spacing) if measured_by else None,
        dataset=f"{dataset}, held out",
    )
    rows = [(metric.name, f"{metric.value:.4g}", str(metric.n)) for metric in report.metrics]
    console.print(table(("metric", "value", "N"), *rows))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Figures are in {report.save(folder)}, pictures beside them.")


@app.command()
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

    from meddiffusers.evaluation.panels import panel

    pipeline = _attribute_pipeline(repository, revision)
    curve = pipeline.vae.calibration_of(attribute)
    asked = np.linspace(curve["values"][0], curve["values"][-1], steps)
    with PIL.Image.open(image) as picture:
        images = np.asarray(pipeline.traverse(picture, attribute, steps=steps, output_type="np").images)
    panel({attribute: list(images)}, {attribute: [f"{value:.3g} {curve['unit']}" for value in asked]}).save(output)
    console.print(f"The panel is {output}")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A repository, as training or `card write` leaves it.")],
    repo_id: Annotated[str, typer.Argument(help="Where on the Hub: owner/name.")],
    card: Annotated[Path | None, typer.Option(help="Another card than the folder's README.md.")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag the commit.")] = None,
) -> None:
    """Check a repository and push it to the Hub."""
    from meddiffusers.hub.publish import publish as push

    console.print(f"Published: {push(folder, repo_id, card=card, private=private, tag=tag)}")


@card.command("lint")
def card_lint(repository: Repository, revision: Revision = None) -> None:
    """List the holes of a repository's model card; exit status 1 if there are any."""
    from meddiffusers.hub.card import card_faults
    from meddiffusers.hub.load import local_folder

    folder = local_folder(repository, revision=revision)
    readme = folder / "README.md"
    faults = card_faults(readme.read_text(encoding="utf-8"), folder) if readme.is_file() else ["There is no README.md."]
    for fault in faults:
        console.print(f"- {fault}")
    console.print(f"{len(faults)} fault(s) in the card of {repository}.")
    raise typer.Exit(bool(faults))


@card.command("write")
def card_write(
    runs: Annotated[list[Path], typer.Argument(help="Training runs of one recipe; the first is the one to publish.")],
    facts: Annotated[Path, typer.Option(help="YAML of facts, see model_cards/.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="What the weights are stored in.")
    ] = "float32",
) -> None:
    """Write a whole repository from training runs: the first run's weights, figures with their spread over all runs."""
    import torch

    from meddiffusers.evaluation.report import Report
    from meddiffusers.hub.card import Facts
    from meddiffusers.hub.load import load
    from meddiffusers.hub.publish import write_repository

    report, *others = [Report.read(run) for run in runs]
    kept = (
        {"text_encoder": torch.float32} if (runs[0] / "text_encoder").is_dir() else {}
    )  # transformers runs it as stored
    pipeline = load(runs[0], dtype={**kept, "default": getattr(torch, dtype)})
    written = write_repository(pipeline, report.with_spread(others), Facts.read(facts), output)
    console.print(f"The repository is {written}")


@app.command()
def info(repository: Repository, revision: Revision = None) -> None:
    """What a repository holds: components, inputs, figures, licence. Its faults, with exit status 1, if it has any."""
    from meddiffusers.hub.describe import describe
    from meddiffusers.hub.faults import repository_faults
    from meddiffusers.hub.load import local_folder

    folder = local_folder(repository, revision=revision)
    faults = repository_faults(folder)
    for fault in faults:
        console.print(f"fault: {fault}")
    if faults:
        raise typer.Exit(1)
    about = describe(folder)
    console.print(f"{about.pipeline}  {about.megabytes:.1f} MB  licence: {about.licence}", style="bold")
    rows = [(part.name, part.class_name, part.library, f"{part.parameters:,}") for part in about.components]
    console.print(table(("component", "class", "library", "parameters"), *rows))
    for line in about.inputs:
        console.print(f"- {line}")
    if about.metrics:
        figures = [(metric["name"], f"{metric['value']:.4g}", metric["dataset"]) for metric in about.metrics]
        console.print(table(("metric", "value", "data"), *figures))


def main() -> None:
    """Run the command line; errors that say what to do are shown without a traceback, exit status 2."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"error: {error}")
        raise SystemExit(2) from error


def _attribute_pipeline(repository: str, revision: str | None) -> AttributeVAEPipeline:
    from meddiffusers.pipelines.attribute_vae_pipeline import AttributeVAEPipeline
    from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipeline

    pipeline = pipeline_of(repository, revision, (AttributeVAEPipeline, TemporalConsistencyPipeline))
    return AttributeVAEPipeline.from_pipe(pipeline)


if __name__ == "__main__":
    main()
