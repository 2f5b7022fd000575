"""`meddiffusers generate`: generate whole data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console
from meddiffusers.cli.latent_diffusion import latent_diffusion_pipeline, slices_like, volumes_like

if TYPE_CHECKING:
    from meddiffusers.generation.covariates import CovariateSource
    from meddiffusers.generation.label_maps import LabelMaps
    from meddiffusers.generation.quality_filter import QualityFilter
    from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline


def generate(
    repository: Repository,
    output: Annotated[
        Path, typer.Option("--output", help="Folder of the data set: a new one, or one of an interrupted run.")
    ],
    num_samples: Annotated[int, typer.Option("--num-samples", min=1, help="Number of samples to generate.")] = 100,
    covariates: Annotated[
        Path | None,
        typer.Option(help="Table (.csv, .xlsx) of subjects; covariates are sampled from its joint distribution."),
    ] = None,
    as_rows: Annotated[bool, typer.Option(help="Use the table's rows in their order instead of sampling.")] = False,
    masks: Annotated[
        str | None,
        typer.Option(
            help="Label maps to generate from: 'phantom', a folder of training data, or a folder of NIfTI label maps."
        ),
    ] = None,
    known: Annotated[
        str, typer.Option(help="Training data to search for copies: 'phantom', a folder of scans, or 'none'.")
    ] = "none",
    num_inference_steps: Annotated[int, typer.Option(min=1, help="Number of denoising steps.")] = 50,
    guidance_scale: Annotated[
        float, typer.Option(min=1, help="Scale of classifier-free guidance; 1 turns it off.")
    ] = 1.0,
    extrapolate: Annotated[bool, typer.Option(help="Allow covariates outside the range of the training data.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed; with a sample's number it determines the sample.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Number of samples in one file.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of samples to generate at once.")] = 4,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Data set repository on the Hub to publish to, as 'owner/name'.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Generate a data set: NIfTI images in Parquet shards and a data set card, with copies and failures marked.

    Run the same command again to resume an interrupted run. With --masks, each image is stored beside its label map.

    To split the work over GPUs and machines, use `accelerate launch -m meddiffusers.cli generate …`, or on CPUs
    `torchrun --nproc_per_node 2 -m -- meddiffusers.cli generate …`.
    """
    from accelerate import PartialState

    from meddiffusers.generation.bulk import CARD, MANIFEST, GenerationConfig, generate
    from meddiffusers.hub.training_config import recorded_data

    pipeline, recorded = latent_diffusion_pipeline(repository, revision), recorded_data(repository, revision)
    settings: dict[str, Any] = {"num_inference_steps": num_inference_steps}
    if guidance_scale != 1:
        settings["guidance_scale"] = guidance_scale
    if extrapolate:
        settings["extrapolate"] = True
    config = GenerationConfig(Path(repository).name, num_samples, seed, shard_size, batch_size, settings)
    source = None if covariates is None else _source(covariates, as_rows, list(pipeline.unet.covariates))
    quality_filter = None if known == "none" else _quality_filter(known, pipeline, recorded)
    maps = None if masks is None else _label_maps(masks, pipeline, recorded, num_samples)
    card = generate(pipeline, config, output, source, quality_filter, maps)
    if not PartialState().is_main_process:
        return
    console.print(f"The data set is in {output}, its card is {card}")
    if push_to_hub:
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(push_to_hub, repo_type="dataset", exist_ok=True)
        files = [MANIFEST, CARD, "data/train-*.parquet"]  # nothing else that may lie in the folder
        commit = api.upload_folder(repo_id=push_to_hub, repo_type="dataset", folder_path=output, allow_patterns=files)
        console.print(f"Published: {commit.commit_url}")


def _source(table: Path, as_rows: bool, names: Sequence[str]) -> CovariateSource:
    """Covariates from a table."""
    from meddiffusers.datasets.public.tables import read_table
    from meddiffusers.generation.covariates import JointDistribution, TableRows

    if not names:
        raise ValueError("The model is not conditioned on covariates; leave --covariates out.")
    rows = [{name: row.get(name) for name in names} for row in read_table(table)]
    if not any(value is not None for row in rows for value in row.values()):
        raise ValueError(f"{table} has no values for {', '.join(names)}. Use a table with columns of these names.")
    filled = [name for name in names if any(row[name] is not None for row in rows)]
    return TableRows(rows) if as_rows else JointDistribution.fit(rows, filled)


def _label_maps(data: str, pipeline: LatentDiffusionPipeline, recorded: Mapping[str, Any], count: int) -> LabelMaps:
    """Label maps from a folder of NIfTI files, training data or phantoms."""
    from meddiffusers.datasets.labelled_config import load_train_split
    from meddiffusers.evaluation.generation.run import first_rater_masks
    from meddiffusers.generation.label_maps import SUFFIXES, LabelMaps, sample_shape

    if not pipeline.unet.mask_labels:
        raise ValueError("The model is not conditioned on label maps; leave --masks out.")
    if Path(data).is_dir() and any(path.name.endswith(SUFFIXES) for path in Path(data).iterdir()):
        return LabelMaps.read(Path(data), sample_shape(pipeline), pipeline.config["spacing"])
    config = replace(slices_like(pipeline, data, recorded), phantom_slices=count)
    return LabelMaps(first_rater_masks(load_train_split(config))[:count])


def _quality_filter(known: str, pipeline: LatentDiffusionPipeline, recorded: Mapping[str, Any]) -> QualityFilter:
    """A quality filter with the images of the training data."""
    from meddiffusers.datasets.labelled_config import load_train_split
    from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
    from meddiffusers.datasets.volume_config import load_volume_data
    from meddiffusers.generation.quality_filter import QualityFilter

    is_2d = pipeline.unet.config["spatial_dims"] == 2
    rows = (
        load_train_split(slices_like(pipeline, known, recorded))
        if is_2d
        else load_volume_data(volumes_like(pipeline, known, recorded))["train"]
    )
    images = (row["image"].astype("float32") / INTENSITY_SCALE for row in rows.with_format("numpy"))
    return QualityFilter.fit(
        (image.swapaxes(1, 2) if is_2d else image for image in images), axis=1
    )  # as NIfTI has the axes
