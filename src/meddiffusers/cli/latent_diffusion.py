"""`meddiffusers evaluate ldm`: evaluate latent diffusion models of volumes, and of slices from label maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meddiffusers.cli.console import Repository, Revision, console, pipeline_of, table

if TYPE_CHECKING:
    from meddiffusers.datasets.labelled_config import LabelledDataConfig
    from meddiffusers.datasets.volume_config import VolumeDataConfig
    from meddiffusers.evaluation.report import Report
    from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline


def evaluate_ldm(
    repository: Repository,
    data: Annotated[str, typer.Argument(help="'phantom', or a folder of scans.")] = "phantom",
    data_table: Annotated[
        Path | None, typer.Option("--table", help="Table with a row for each volume of the folder, and its covariates.")
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(help="For volumes: folder or repository of the SliceAttributePredictor that measures them."),
    ] = None,
    segmenter: Annotated[
        str | None, typer.Option(help="For label maps: repository of the model that segments the generated slices.")
    ] = None,
    num_inference_steps: Annotated[int, typer.Option(min=1, help="Number of denoising steps.")] = 50,
    guidance_scale: Annotated[
        float, typer.Option(min=1, help="Scale of classifier-free guidance; 1 turns it off.")
    ] = 1.0,
    max_samples: Annotated[int, typer.Option(min=2, help="Largest number of held-out volumes or slices.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise and of the bootstrap intervals.")] = 0,
    lora: Annotated[str | None, typer.Option(help="Folder or repository of a LoRA adapter.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and the figures; by default runs/evaluation/NAME.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Evaluate fidelity, diversity, memorization and conditioning fidelity on held-out subjects."""
    from meddiffusers.hub.training_config import recorded_data

    pipeline = latent_diffusion_pipeline(repository, revision)
    if lora:
        pipeline.load_lora_weights(lora)
    takes_masks = bool(pipeline.unet.mask_labels)
    if takes_masks and segmenter is None:
        raise ValueError(
            f"{repository} generates from label maps. Give --segmenter REPOSITORY, which finds them again."
        )
    if not takes_masks and pipeline.unet.config["spatial_dims"] != 3:
        raise ValueError(
            f"{repository} generates images without label maps; expected a model of volumes, or one with label maps."
        )
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    recorded = recorded_data(repository, revision)
    report = (
        _evaluate_masks(pipeline, data, recorded, segmenter or "", max_samples, seed, settings)
        if takes_masks
        else _evaluate_volumes(pipeline, data, recorded, data_table, predictor, max_samples, seed, settings)
    )
    metrics = [[each.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}"] for each in report.metrics]
    console.print(table(("metric", "value", "interval"), *metrics))
    folder = output or Path("runs", "evaluation", Path(repository).name)
    console.print(f"Metrics are in {report.save(folder)}, figures beside them.")


def latent_diffusion_pipeline(repository: str, revision: str | None) -> LatentDiffusionPipeline:
    """Load the pipeline of a repository on the device of this process, without a progress bar."""
    import torch
    from accelerate import PartialState

    from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

    pipeline = pipeline_of(repository, revision, LatentDiffusionPipeline)
    on_cpus = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()  # under torchrun; accelerate asks
    pipeline.to(PartialState(cpu=on_cpus).device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def volumes_like(
    pipeline: LatentDiffusionPipeline, data: str, recorded: Mapping[str, Any], data_table: Path | None = None
) -> VolumeDataConfig:
    """A data set's volumes on the pipeline's voxels with its covariates; else the settings recorded in training."""
    from meddiffusers.datasets.volume_config import VolumeDataConfig
    from meddiffusers.generation.label_maps import sample_shape

    own = {
        "dataset_name": data,
        "table": str(data_table) if data_table else None,
        "modalities": list(pipeline.modalities),
        "covariates": list(pipeline.unet.covariates),
        "spacing": pipeline.config["spacing"],
        "size": list(sample_shape(pipeline)),
    }
    return VolumeDataConfig(**{**recorded, **own})


def slices_like(pipeline: LatentDiffusionPipeline, data: str, recorded: Mapping[str, Any]) -> LabelledDataConfig:
    """A data set's slices and label maps as the pipeline takes them; else the recorded settings of its training."""
    from meddiffusers.datasets.labelled_config import LabelledDataConfig, data_source
    from meddiffusers.generation.label_maps import sample_shape

    own = {
        **data_source(data),
        "modalities": list(pipeline.modalities),
        "resolution": sample_shape(pipeline)[0],
        "spacing": pipeline.config["spacing"],
    }
    if pipeline.unet.mask_labels:
        own["classes"] = list(pipeline.unet.mask_labels.values())
    return LabelledDataConfig(**{**recorded, **own})


def _evaluate_volumes(
    pipeline: LatentDiffusionPipeline,
    data: str,
    recorded: Mapping[str, Any],
    data_table: Path | None,
    predictor: str | None,
    max_samples: int,
    seed: int,
    settings: dict[str, Any],
) -> Report:
    import torch

    from meddiffusers.datasets.rows import images_of
    from meddiffusers.datasets.volume_config import load_volume_data
    from meddiffusers.evaluation.generation.autoencoder import reconstruct
    from meddiffusers.evaluation.generation.run import covariates_of, generate_volumes
    from meddiffusers.evaluation.generation.volumes import evaluate_volumes
    from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

    splits = load_volume_data(volumes_like(pipeline, data, recorded, data_table))
    rows = splits["test"].select(range(min(max_samples, len(splits["test"]))))
    covariates, held_out = covariates_of(pipeline, rows), images_of(rows)
    return evaluate_volumes(
        generate_volumes(pipeline, covariates, seed, **settings)[:, 0],
        held_out[:, 0],
        images_of(splits["train"])[:, 0],
        covariates,
        covariates_of(pipeline, splits["train"]),
        SliceAttributePredictor.from_pretrained(predictor).eval() if predictor else None,
        spacing=pipeline.config["spacing"],
        dataset=f"{Path(data).name}, held out",
        decoded=reconstruct(pipeline.vae, torch.from_numpy(held_out), pipeline.image_range).numpy()[:, 0],
        seed=seed,
    )


def _evaluate_masks(
    pipeline: LatentDiffusionPipeline,
    data: str,
    recorded: Mapping[str, Any],
    segmenter: str,
    max_samples: int,
    seed: int,
    settings: dict[str, Any],
) -> Report:
    import torch

    from meddiffusers.datasets.labelled_config import load_labelled_data
    from meddiffusers.datasets.rows import images_of
    from meddiffusers.evaluation.generation.autoencoder import reconstruct
    from meddiffusers.evaluation.generation.mask_fidelity import evaluate_masks
    from meddiffusers.evaluation.generation.run import first_rater_masks, generate_slices
    from meddiffusers.hub.load import load

    segmentation: Any = load(segmenter)
    segmentation.set_progress_bar_config(disable=True)
    splits = load_labelled_data(slices_like(pipeline, data, recorded))
    rows = splits["test"].select(range(min(max_samples, len(splits["test"]))))
    masks, held_out = first_rater_masks(rows), images_of(rows)
    return evaluate_masks(
        generate_slices(pipeline, masks, seed, **settings),
        held_out,
        images_of(splits["train"]),
        masks,
        list(rows["subject"]),
        segmentation,
        modalities=pipeline.modalities,
        spacing=pipeline.config["spacing"],
        dataset=f"{Path(data).name}, held out",
        decoded=reconstruct(pipeline.vae, torch.from_numpy(held_out), pipeline.image_range).numpy(),
        seed=seed,
    )
