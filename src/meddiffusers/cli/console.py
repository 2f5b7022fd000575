"""What the commands print with."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

# No markup: units and extras stand in square brackets. No wrapping: paths and addresses are there to be copied.
console = Console(markup=False, highlight=False, soft_wrap=True)
errors = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)


def table(header: Sequence[str], *rows: Sequence[str]) -> Table:
    """A plain table."""
    grid = Table(*header, box=None, header_style="bold")
    for row in rows:
        grid.add_row(*row)
    return grid
