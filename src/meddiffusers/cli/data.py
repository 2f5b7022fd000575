"""`meddiffusers data …`: look into scans, convert them, make phantoms."""

from __future__ import annotations

import typer

data = typer.Typer(no_args_is_help=True, help="Look into scans, convert them, make phantoms.")
