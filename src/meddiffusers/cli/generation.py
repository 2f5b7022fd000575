"""`meddiffusers generate`: whole data sets of drawn volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console
from meddiffusers.cli.latent_diffusion import latent_diffusion_pipeline, slices_like, volumes_like


def generate(
    repository: Repository,
    out: Annotated[Path, typer.Option(help="Folder of the data set, new or begun before.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 100,
    covariates: Annotated[
        Path | None, typer.Option(help="Table (.csv, .xlsx) whose joint distribution the covariates are drawn from.")
    ] = None,
    as_rows: Annotated[bool, typer.Option(help="Take the table's rows one after the other instead.")] = False,
    masks: Annotated[
        str | None,
        typer.Option(help="Label maps to draw of: 'phantom', a folder of training data, or one of NIfTI label maps."),
    ] = None,
    known: Annotated[
        str, typer.Option(help="Training data to look for copies of: 'phantom', a folder of scans, or 'none'.")
    ] = "none",
    num_inference_steps: Annotated[int, typer.Option(min=1, help="Of the scheduler.")] = 50,
    guidance_scale: Annotated[float, typer.Option(min=1, help="Towards what it is told; 1: none.")] = 1.0,
    extrapolate: Annotated[bool, typer.Option(help="Take covariates outside the range that the model learnt.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="With a sample's number it decides all of it.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Samples of a file.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples that are drawn at once.")] = 4,
    push_to_hub: Annotated[str | None, typer.Option(help="Data set to publish to, 'owner/name', in pieces.")] = None,
    revision: Revision = None,
) -> None:
    """Draw a data set: NIfTI in Parquet shards, a card, copies and failures marked. The same command goes on with it.

    Of label maps each image comes with its map.

    Under `accelerate launch -m meddiffusers.cli generate …` the work is split over GPUs and machines, on CPUs under
    `torchrun --nproc_per_node 2 -m -- meddiffusers.cli generate …`.
    """
    from accelerate import PartialState

    from meddiffusers.generation.bulk import Order, generate

    pipeline = latent_diffusion_pipeline(repository, revision)
    settings: dict[str, Any] = {"num_inference_steps": num_inference_steps}
    if guidance_scale != 1:
        settings["guidance_scale"] = guidance_scale
    if extrapolate:
        settings["extrapolate"] = True
    order = Order(Path(repository).name, n, seed, shard_size, batch_size, settings)
    names = list(pipeline.unet.covariates)
    source = None if covariates is None else _source(covariates, as_rows, names)
    gate = None if known == "none" else _gate(known, pipeline)
    card = generate(pipeline, order, out, source, gate, None if masks is None else _masks(masks, pipeline, n))
    if not PartialState().is_main_process:
        return
    console.print(f"The data set is in {out}, its card is {card}")
    if push_to_hub:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(push_to_hub, repo_type="dataset", exist_ok=True)
        commit = api.upload_folder(repo_id=push_to_hub, repo_type="dataset", folder_path=out)  # in pieces, if large
        console.print(f"Published: {commit.commit_url}")


def _source(table: Path, as_rows: bool, names: Sequence[str]) -> Any:
    from meddiffusers.datasets.public.tables import read_table
    from meddiffusers.generation.covariates import JointDistribution, TableRows

    if not names:
        raise ValueError("The model is told no covariates; leave --covariates out.")
    rows = [{name: row.get(name) for name in names} for row in read_table(table)]
    if not any(value is not None for row in rows for value in row.values()):
        raise ValueError(f"{table} says nothing of {', '.join(names)}. Give a table with columns of these names.")
    filled = [name for name in names if any(row[name] is not None for row in rows)]
    return TableRows(rows) if as_rows else JointDistribution.fit(rows, filled)


def _masks(data: str, pipeline: Any, count: int) -> Any:
    from meddiffusers.datasets.labelled_config import train_split
    from meddiffusers.evaluation.generation.run import first_rater_masks
    from meddiffusers.generation.label_maps import ENDS, LabelMaps, size_of

    if not pipeline.unet.mask_labels:
        raise ValueError("The model is told no label maps; leave --masks out.")
    if Path(data).is_dir() and any(path.name.endswith(ENDS) for path in Path(data).iterdir()):
        return LabelMaps.read(Path(data), size_of(pipeline), pipeline.config["spacing"])
    config = replace(slices_like(pipeline, data), phantom_slices=count)
    return LabelMaps(first_rater_masks(train_split(config))[:count])


def _gate(known: str, pipeline: Any) -> Any:
    from meddiffusers.datasets.labelled_config import train_split
    from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
    from meddiffusers.datasets.volume_config import load_volume_data
    from meddiffusers.generation.quality_filter import QualityFilter

    is_2d = pipeline.unet.config["spatial_dims"] == 2
    rows = (
        train_split(slices_like(pipeline, known)) if is_2d else load_volume_data(volumes_like(pipeline, known))["train"]
    )
    images = (row["image"].astype("float32") / INTENSITY_SCALE for row in rows.with_format("numpy"))
    return QualityFilter.of(
        (image.swapaxes(1, 2) if is_2d else image for image in images), axis=1
    )  # as NIfTI has the axes
