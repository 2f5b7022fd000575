"""`meddiffusers …`: train, run, evaluate and publish models from the command line, one file per group of commands.

The commands import heavy modules only when they run, so that `--help` loads nothing but diffusers.
"""

from __future__ import annotations

import typer

from meddiffusers.cli.anomaly import detect, evaluate_anomaly
from meddiffusers.cli.attributes import evaluate_attribute_model, traverse
from meddiffusers.cli.console import errors
from meddiffusers.cli.convert import convert
from meddiffusers.cli.data import data
from meddiffusers.cli.demo import demo
from meddiffusers.cli.generation import generate
from meddiffusers.cli.latent_diffusion import evaluate_ldm
from meddiffusers.cli.repository import card_lint, card_write, info, publish
from meddiffusers.cli.segmentation import evaluate_segmentation, segment
from meddiffusers.cli.temporal import evaluate_temporal, repair
from meddiffusers.cli.text_to_mr import evaluate_text_to_mr, text_to_mr
from meddiffusers.cli.train import SCRIPT_OPTIONS, train

app = typer.Typer(no_args_is_help=True, help="Generative models for medical imaging.", pretty_exceptions_enable=False)
evaluate = typer.Typer(no_args_is_help=True, help="Evaluate a model on held-out data.")
card = typer.Typer(no_args_is_help=True, help="Write and check model cards.")
for group, name in ((evaluate, "evaluate"), (card, "card"), (convert, "convert"), (data, "data")):
    app.add_typer(group, name=name)
for command in (demo, segment, detect, text_to_mr, generate, repair, traverse, info, publish):
    app.command()(command)
app.command(context_settings=SCRIPT_OPTIONS)(train)
evaluate.command("segmentation")(evaluate_segmentation)
evaluate.command("anomaly")(evaluate_anomaly)
evaluate.command("text-to-mr")(evaluate_text_to_mr)
evaluate.command("ldm")(evaluate_ldm)
evaluate.command("temporal")(evaluate_temporal)
evaluate.command("attributes")(evaluate_attribute_model)
card.command("lint")(card_lint)
card.command("write")(card_write)


def main() -> None:
    """Run the command line. Expected errors are printed without a traceback, with exit status 2."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"error: {error}")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
