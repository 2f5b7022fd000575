"""`meddiffusers convert …`: peers' weights into repositories of this project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from meddiffusers.cli.console import console

convert = typer.Typer(no_args_is_help=True, help="Make a repository of the weights of another project.")


@convert.command("guided-diffusion")
def guided_diffusion(
    checkpoint: Annotated[Path, typer.Argument(help="The .pt or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    task: Annotated[
        Literal["segmentation", "anomaly"], typer.Option(help="What the network was trained for.")
    ] = "segmentation",
    classifier: Annotated[
        Path | None, typer.Option(help="Of anomaly: the classifier's file, which guides the network.")
    ] = None,
    classifier_head_channels: Annotated[
        int, typer.Option(min=1, help="Channels of the classifier's attention heads: not told by the weights.")
    ] = 64,
    image_size: Annotated[int, typer.Option(min=1, help="Side of the training images in pixels.")] = 224,
    num_heads: Annotated[int | None, typer.Option(min=1, help="Attention heads: not told by the weights.")] = None,
    num_head_channels: Annotated[int | None, typer.Option(min=1, help="Or channels of each attention head.")] = None,
    qkv_order: Annotated[
        Literal["legacy", "new"], typer.Option(help="Order of query, key and value: not told by the weights.")
    ] = "legacy",
    modalities: Annotated[
        str, typer.Option(help="Names of the image's channels, in their order.")
    ] = "t1,t1ce,t2,flair",
    label: Annotated[str, typer.Option(help="Of segmentation: what the mask marks.")] = "tumour",
    classes: Annotated[
        str, typer.Option(help="Of anomaly: names of the classifier's classes, in their order.")
    ] = "healthy,diseased",
    spacing: Annotated[float | None, typer.Option(help="Edge length of a pixel in mm, for use on scans.")] = 1.0,
) -> None:
    """Wolleb et al. 2022: the networks of Diffusion-based-Segmentation and diffusion-anomaly as a pipeline.

    Segmentation: `savedmodelN.pt`, trained on masks in {0, 1}, which the pipeline is told. Anomaly: `brats2updateN.pt`,
    and with --classifier `modelbratsclassN.pt`, trained on images in [0, 1].
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
    settings: dict[str, Any] = {"modalities": [name.strip() for name in modalities.split(",")], "spacing": spacing}
    if task == "segmentation":
        pipeline = _segmentation(unet, scheduler, label, settings)
    else:
        judge = None
        if classifier:
            judge = convert_classifier(
                load_checkpoint(classifier),
                image_size=image_size,
                num_head_channels=classifier_head_channels,
                qkv_order=qkv_order,
                id2label=[name.strip() for name in classes.split(",")],
            )
        pipeline = _anomaly(unet, scheduler, judge, settings)
    pipeline.save_pretrained(output)
    console.print(f"The repository is {output}")


@convert.command("autoencoder")
def autoencoder(
    checkpoint: Annotated[Path, typer.Argument(help="The .ckpt, .pt or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    image_size: Annotated[int, typer.Option(min=1, help="Side of the training images in pixels.")] = 256,
) -> None:
    """An autoencoder of latent-diffusion's naming, such as MedVAE's `medvae_4_1_2d`, as an AutoencoderKL.

    Its scaling factor is 1 until it is measured: train_autoencoder.py does so when it goes on with it.
    """
    from meddiffusers.convert.compvis_autoencoder import convert_autoencoder

    _check_new(output)
    vae: Any = convert_autoencoder(checkpoint, image_size)
    vae.save_pretrained(output)
    console.print(f"The autoencoder is {output}")


@convert.command("monai-bundle")
def monai_bundle(
    folder: Annotated[Path, typer.Argument(help="The bundle, with the folders configs and models.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    scaling_factor: Annotated[
        float | None, typer.Option(help="By which latents were multiplied in training, if the bundle does not say.")
    ] = None,
    covariates: Annotated[
        str, typer.Option(help="Names of the network's additional channels, in their order, with commas between.")
    ] = "",
    spacing: Annotated[float | None, typer.Option(help="Edge length of a voxel in mm.")] = None,
) -> None:
    """A latent diffusion model of MONAI's zoo, with weights of today's or of GenerativeModels' names, as a pipeline.

    Covariates are numbers from 0 to 1, as bundles take them: their ranges stand in unet/config.json, to be set.
    """
    from meddiffusers.convert.monai_bundle import convert_bundle

    _check_new(output)
    names = [name.strip() for name in covariates.split(",") if name.strip()]
    ranges = {name: [0.0, 1.0] for name in names} or None
    convert_bundle(folder, scaling_factor=scaling_factor, covariates=ranges, spacing=spacing).save_pretrained(output)
    console.print(f"The repository is {output}")


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
