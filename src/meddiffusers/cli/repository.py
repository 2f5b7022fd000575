"""`meddiffusers info`, `publish` and `card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from meddiffusers.cli.console import Repository, Revision, console, table


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of a repository, as training or `card write` creates it.")],
    repo_id: Annotated[str, typer.Argument(help="Repository id on the Hub: owner/name.")],
    card: Annotated[Path | None, typer.Option(help="Model card to use in place of the folder's README.md.")] = None,
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit.")] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a label, modality, attribute or data set that tells of no person; repeatable."),
    ] = None,
) -> None:
    """Check a repository, and push it to the Hub."""
    from meddiffusers.hub.publish import publish as push

    confirmed: dict[str, Any] = {"names": name} if name else {}
    console.print(f"Published: {push(folder, repo_id, card=card, private=private, tag=tag, **confirmed)}")


def card_lint(repository: Repository, revision: Revision = None) -> None:
    """List what is missing in a repository's model card. Exit status 1 if anything is."""
    from meddiffusers.hub.card import card_issues
    from meddiffusers.hub.load import local_folder
    from meddiffusers.utils.reading import read_text

    folder = local_folder(repository, revision=revision)
    readme = folder / "README.md"
    issues = card_issues(read_text(readme), folder) if readme.is_file() else ["There is no README.md."]
    for issue in issues:
        console.print(f"- {issue}")
    console.print(f"{len(issues)} issue(s) in the card of {repository}.")
    raise typer.Exit(bool(issues))


def card_write(
    runs: Annotated[
        list[Path], typer.Argument(help="Training runs with one configuration; the first run is published.")
    ],
    facts: Annotated[Path, typer.Option(help="YAML file of facts, see model_cards/.")],
    output: Annotated[Path, typer.Option(help="Folder to write the repository to.")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="Data type of the stored weights.")
    ] = "float32",
) -> None:
    """Write a repository from training runs: the first run's weights, and metrics with their range over all runs."""
    import torch

    from meddiffusers.evaluation.report import Report
    from meddiffusers.hub.card import Facts
    from meddiffusers.hub.load import load
    from meddiffusers.hub.publish import write_repository
    from meddiffusers.hub.training_config import TrainingRecord

    report, *others = [Report.read(run) for run in runs]
    kept = (
        {"text_encoder": torch.float32} if (runs[0] / "text_encoder").is_dir() else {}
    )  # transformers computes in the stored type
    pipeline = load(runs[0], dtype={**kept, "default": getattr(torch, dtype)})
    record = TrainingRecord.read(runs[0])
    written = write_repository(pipeline, report.with_spread(others), Facts.read(facts), output, record)
    console.print(f"Repository: {written}")


def info(repository: Repository, revision: Revision = None) -> None:
    """Describe a repository: components, inputs, metrics and licence. Lists issues, with exit status 1, if any."""
    from meddiffusers.hub.checks import code_issues, repository_issues
    from meddiffusers.hub.describe import describe
    from meddiffusers.hub.load import local_folder

    folder = local_folder(repository, revision=revision)
    issues = repository_issues(folder) + code_issues(folder)
    for issue in issues:
        console.print(f"issue: {issue}")
    if issues:
        raise typer.Exit(1)
    about = describe(folder)
    console.print(f"{about.pipeline}  {about.megabytes:.1f} MB  licence: {about.licence}", style="bold")
    rows = [(part.name, part.class_name, part.library, f"{part.parameters:,}") for part in about.components]
    console.print(table(("component", "class", "library", "parameters"), *rows))
    for line in about.inputs:
        console.print(f"- {line}")
    if about.metrics:
        lines = [(metric["name"], f"{metric['value']:.4g}", metric["dataset"]) for metric in about.metrics]
        console.print(table(("metric", "value", "data"), *lines))
