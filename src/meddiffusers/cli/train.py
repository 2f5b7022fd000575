"""`meddiffusers train`: run a training script with one of the packaged configurations."""

from __future__ import annotations

import ast
import difflib
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from meddiffusers.cli.console import console

# Options that this command does not know are the script's, --help included.
SCRIPT_OPTIONS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
CONFIGURED_AS = {"ar_vae": "attribute_vae", "vae": "attribute_vae"}  # configurations that are not named like their task


def train(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(help="The training task; without one, all tasks are listed.")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="NAME_OR_FILE", help="A packaged configuration, or a YAML file of your own.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the tasks and their configurations.")] = False,
) -> None:
    """Train a model: `meddiffusers train TASK --config NAME_OR_FILE [OPTIONS OF THE TASK]`.

    Every line of the configuration is also an option, which wins: `--learning_rate 1e-4`. `meddiffusers train TASK
    --help` lists the options of a task. The training runs through `accelerate launch`, as `accelerate config` or its
    environment variables say.
    """
    if task == "--help":
        console.print(context.get_help())
    elif task is None or listed:
        _list_tasks()
    else:
        script = _script(task)
        options = [f"--config={_configuration(config)}"] if config else []
        raise typer.Exit(_launch(script, [*options, *context.args]))


def scripts() -> dict[str, Path]:
    """The training scripts by the name of their task."""
    folder = Path(str(files("meddiffusers.scripts")))
    paths = sorted([*folder.glob("train_*.py"), *folder.glob("fit_*.py")], key=lambda path: path.stem.partition("_")[2])
    return {path.stem.partition("_")[2]: path for path in paths}


def configurations() -> dict[str, Path]:
    """The packaged configurations by name."""
    return {path.stem: path for path in sorted(Path(str(files("meddiffusers.scripts"))).glob("configs/*.yaml"))}


def task_of(configuration: str) -> str:
    """The task that a packaged configuration is for, which its name begins with."""
    names = {**{name: name for name in scripts()}, **CONFIGURED_AS}
    prefix = max((name for name in names if f"{configuration}_".startswith(f"{name}_")), key=len)
    return names[prefix]


def _list_tasks() -> None:
    for task, script in scripts().items():
        summary = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").splitlines()[0]
        names = [name for name in configurations() if task_of(name) == task]
        console.print(f"{task}: {summary}")
        console.print(f"    {', '.join(names)}")
    console.print("\nmeddiffusers train TASK --config NAME_OR_FILE [--OPTION VALUE …]")
    console.print("meddiffusers train TASK --help lists the options of a task.")


def _script(task: str) -> Path:
    known = scripts()
    name = task.replace("-", "_")
    if name not in known:
        raise ValueError(f"There is no training task {task!r}{_nearest(name, known)} Known: {', '.join(known)}.")
    return known[name]


def _configuration(name: str) -> Path:
    known = configurations()
    if name.removesuffix(".yaml") in known:
        return known[name.removesuffix(".yaml")]
    if not Path(name).is_file():
        raise ValueError(
            f"There is no configuration {name!r}, neither a file nor a packaged one{_nearest(name, known)} "
            "`meddiffusers train` lists those that are packaged."
        )
    return Path(name)


def _nearest(name: str, known: dict[str, Path]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)." if near else "."


def _launch(script: Path, options: list[str]) -> int:
    """Run a script and return its exit status: a training through accelerate; a fit, or --help, in one process."""
    from meddiffusers.training.engine.assembly import available_cores
    from meddiffusers.training.engine.precision import device_type

    trains = script.stem.startswith("train_") and "--help" not in options
    launcher = ["-m", "accelerate.commands.launch", "--quiet"] if trains else []  # quiet: the script's traceback alone
    environment = dict(os.environ)
    if device_type() == "cpu":
        environment.setdefault("OMP_NUM_THREADS", str(available_cores()))  # accelerate's default is one
    with subprocess.Popen([sys.executable, *launcher, str(script), *options], env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # which the script received too: it writes a checkpoint, then stops
                continue
