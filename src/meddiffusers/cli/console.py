"""Shared by the commands: output, the arguments that name a repository, and loading its pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

# No markup, since texts contain square brackets. No wrapping, so that paths and addresses can be copied.
console = Console(markup=False, highlight=False, soft_wrap=True)
wide = Console(markup=False, highlight=False, width=10_000)  # one line per row, however narrow the terminal
errors = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)


def table(header: Sequence[str], *rows: Sequence[str]) -> Table:
    """A table without borders."""
    grid = Table(*header, box=None, header_style="bold")
    for row in rows:
        grid.add_row(*row)
    return grid


Repository = Annotated[str, typer.Argument(help="Folder, or repository id on the Hub.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
Kind = TypeVar("Kind")


def pipeline_of(repository: str, revision: str | None, kind: type[Kind] | tuple[type[Kind], ...]) -> Kind:
    """Load the pipeline of a repository.

    Raises:
        ValueError: The pipeline is not an instance of `kind`.
    """
    from meddiffusers.hub.load import load

    pipeline = load(repository, revision=revision)
    if not isinstance(pipeline, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = [f"{'an' if each.__name__[0] in 'AEIOU' else 'a'} {each.__name__}" for each in kinds]
        raise ValueError(f"{repository} holds a {type(pipeline).__name__}; this command takes {' or '.join(names)}.")
    return pipeline
