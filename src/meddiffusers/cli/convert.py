"""`meddiffusers convert …`: peers' weights into repositories of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from meddiffusers.cli.console import console

convert = typer.Typer(no_args_is_help=True, help="Make a repository of the weights of another project.")


@convert.command("guided-diffusion")
def guided_diffusion(
    checkpoint: Annotated[Path, typer.Argument(help="The .pt or .safetensors file.")],
    output: Annotated[Path, typer.Option(help="Folder of the repository to write.")],
    task: Annotated[Literal["segmentation"], typer.Option(help="What the network was trained for.")] = "segmentation",
    image_size: Annotated[int, typer.Option(min=1, help="Side of the training pictures in pixels.")] = 224,
    num_heads: Annotated[int | None, typer.Option(min=1, help="Attention heads: not told by the weights.")] = None,
    num_head_channels: Annotated[int | None, typer.Option(min=1, help="Or channels of each attention head.")] = None,
    qkv_order: Annotated[
        Literal["legacy", "new"], typer.Option(help="Order of query, key and value: not told by the weights.")
    ] = "legacy",
    sequences: Annotated[str, typer.Option(help="Names of the image's channels, in their order.")] = "t1,t1ce,t2,flair",
    label: Annotated[str, typer.Option(help="What the mask marks.")] = "tumour",
    spacing: Annotated[float | None, typer.Option(help="Edge length of a pixel in mm, for use on scans.")] = 1.0,
) -> None:
    """Wolleb et al. 2022: the `savedmodelN.pt` of Diffusion-based-Segmentation as a segmentation pipeline.

    The reference trains on masks in {0, 1}, which the pipeline is told.
    """
    from meddiffusers.convert.guided_diffusion import convert_guided_diffusion
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline

    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty; expected a new folder.")
    unet, scheduler = convert_guided_diffusion(
        checkpoint,
        task,
        image_size=image_size,
        num_heads=num_heads or (None if num_head_channels else 1),
        num_head_channels=num_head_channels,
        qkv_order=qkv_order,
    )
    pipeline = ConditionalSegmentationPipeline(
        unet,
        scheduler,
        sequences=[name.strip() for name in sequences.split(",")],
        id2label={0: "background", 1: label},
        spacing=spacing,
        mask_range=[0.0, 1.0],
    )
    pipeline.save_pretrained(output)
    console.print(f"The repository is {output}; it samples in 1000 steps, or in few with another scheduler.")
