"""`meddiffusers convert …`: convert weights of other projects to repositories of this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from meddiffusers.cli.console import console

convert = typer.Typer(no_args_is_help=True, help="Convert weights of another project to a repository.")


@convert.command("guided-diffusion")
def guided_diffusion(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, a .pt or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    task: Annotated[
        Literal["segmentation", "anomaly"], typer.Option(help="Task that the network was trained for.")
    ] = "segmentation",
    classifier: Annotated[
        Path | None, typer.Option(help="For anomaly: checkpoint of the classifier that guides the network.")
    ] = None,
    classifier_head_channels: Annotated[
        int,
        typer.Option(min=1, help="Channels of the classifier's attention heads, which the weights do not determine."),
    ] = 64,
    image_size: Annotated[int, typer.Option(min=1, help="Side of the training images in pixels.")] = 224,
    num_heads: Annotated[
        int | None, typer.Option(min=1, help="Number of attention heads, which the weights do not determine.")
    ] = None,
    num_head_channels: Annotated[
        int | None, typer.Option(min=1, help="Channels of each attention head, instead of their number.")
    ] = None,
    qkv_order: Annotated[
        Literal["legacy", "new"],
        typer.Option(help="Order of query, key and value, which the weights do not determine."),
    ] = "legacy",
    modalities: Annotated[
        str, typer.Option(help="Names of the image's channels in their order, separated by commas.")
    ] = "t1,t1ce,t2,flair",
    label: Annotated[str, typer.Option(help="For segmentation: name of the label that the mask marks.")] = "tumour",
    classes: Annotated[
        str, typer.Option(help="For anomaly: names of the classifier's classes in their order, separated by commas.")
    ] = "healthy,diseased",
    spacing: Annotated[
        float | None, typer.Option(help="Edge length of a pixel in mm, which scans are resampled to.")
    ] = 1.0,
) -> None:
    """Convert networks of Diffusion-based-Segmentation and diffusion-anomaly (Wolleb et al. 2022) to a pipeline.

    For segmentation: `savedmodelN.pt`, which was trained on masks in {0, 1}. For anomaly: `brats2updateN.pt`, and with
    --classifier `modelbratsclassN.pt`, which were trained on images in [0, 1].
    """
    from meddiffusers.convert.guided_diffusion import convert_guided_diffusion
    from meddiffusers.convert.guided_diffusion_classifier import convert_classifier
    from meddiffusers.convert.weights import load_checkpoint

    _check_new(output)
    if classifier and task != "anomaly":
        raise ValueError(f"Got --classifier for the task {task}; expected it with --task anomaly.")
    unet, scheduler = convert_guided_diffusion(
        checkpoint,
        task,
        image_size=image_size,
        num_heads=num_heads or (None if num_head_channels else 1),
        num_head_channels=num_head_channels,
        qkv_order=qkv_order,
    )
    settings: dict[str, Any] = {"modalities": _names(modalities), "spacing": spacing}
    if task == "segmentation":
        pipeline = _segmentation(unet, scheduler, label, settings)
    else:
        classifier_model = None
        if classifier:
            classifier_model = convert_classifier(
                load_checkpoint(classifier),
                image_size=image_size,
                num_head_channels=classifier_head_channels,
                qkv_order=qkv_order,
                id2label=_names(classes),
            )
        pipeline = _anomaly(unet, scheduler, classifier_model, settings)
    pipeline.save_pretrained(output)
    console.print(f"The repository is {output}")


@convert.command("autoencoder")
def autoencoder(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, a .ckpt, .pt or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder of the autoencoder to write.")],
    image_size: Annotated[int, typer.Option(min=1, help="Side of the training images in pixels.")] = 256,
) -> None:
    """Convert an autoencoder with CompVis' names of weights, such as MedVAE's `medvae_4_1_2d`, to an AutoencoderKL.

    Its scaling factor is 1. train_autoencoder.py measures it when it continues the training.
    """
    from meddiffusers.convert.compvis_autoencoder import convert_autoencoder

    _check_new(output)
    vae: Any = convert_autoencoder(checkpoint, image_size)
    vae.save_pretrained(output)
    console.print(f"The autoencoder is {output}")


@convert.command("monai-bundle")
def monai_bundle(
    folder: Annotated[Path, typer.Argument(help="Folder of the bundle, with the folders configs and models.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    scaling_factor: Annotated[
        float | None, typer.Option(help="Factor of the latents in training, if the bundle does not state it.")
    ] = None,
    latent_size: Annotated[
        str, typer.Option(help="Sides of the latents, separated by commas, if the bundle does not state them.")
    ] = "",
    covariates: Annotated[
        str,
        typer.Option(
            help="Covariates in the order of the network's channels, separated by commas: NAME for a number from 0 to "
            "1, NAME=LOW/HIGH for one in other units, or NAME=CATEGORY/CATEGORY, such as sex=F/M."
        ),
    ] = "",
    modalities: Annotated[
        str, typer.Option(help="Names of the image's channels in their order, separated by commas.")
    ] = "",
    spacing: Annotated[float | None, typer.Option(help="Edge length of a voxel in mm.")] = None,
) -> None:
    """Convert a latent diffusion model of MONAI's model zoo, from MONAI or GenerativeModels, to a pipeline.

    Bundles expect covariates from 0 to 1. With their ranges and categories the pipeline takes them in their own units:
    0 is the lowest value or the first category, 1 the highest value or the last category.
    """
    from meddiffusers.convert.monai_bundle import convert_bundle
    from meddiffusers.convert.monai_config import ranges_of

    _check_new(output)
    if not all(side.isdecimal() and int(side) for side in _parts(latent_size)):
        raise ValueError(f"Got --latent-size {latent_size}; expected positive whole numbers, as in 20,28,20.")
    pipeline = convert_bundle(
        folder,
        scaling_factor=scaling_factor,
        covariates=ranges_of(_parts(covariates)) or None,
        modalities=_names(modalities) or None,
        spacing=spacing,
        latent_sides=[int(side) for side in _parts(latent_size)] or None,
    )
    pipeline.save_pretrained(output)
    console.print(f"The repository is {output}")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _names(text: str) -> list[str]:
    names = _parts(text)
    if len(set(names)) < len(names):
        raise ValueError(f"Got the names {text}; expected each once.")
    return names


def _check_new(output: Path) -> None:
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty; expected a new folder.")


def _segmentation(unet: Any, scheduler: Any, label: str, settings: Mapping[str, Any]) -> Any:
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline

    labels = {0: "background", 1: label}
    return ConditionalSegmentationPipeline(unet, scheduler, id2label=labels, mask_range=[0.0, 1.0], **settings)


def _anomaly(unet: Any, scheduler: Any, classifier: Any, settings: Mapping[str, Any]) -> Any:
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
    from meddiffusers.schedulers.reversible_ddim_scheduler import ReversibleDDIMScheduler

    reversible = ReversibleDDIMScheduler.from_config(scheduler.config)
    return AnomalyDetectionPipeline(unet, reversible, classifier, image_range=[0.0, 1.0], **settings)
