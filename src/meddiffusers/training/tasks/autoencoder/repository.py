"""The autoencoder of a repository, and the range of intensities that it was trained on."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, DiffusionPipeline

from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL

DEFAULT_RANGE = (-1.0, 1.0)  # of every autoencoder that is trained here


def load_autoencoder(
    name: str,
    subfolder: str | None,
    spatial_dims: int,
    *,
    classes: tuple[Any, Any] = (AutoencoderKL, MonaiAutoencoderKL),
) -> Any:
    """Load the autoencoder of a repository.

    Args:
        name: Repository or folder.
        subfolder: Subfolder of the autoencoder in it.
        spatial_dims: 2 for images, 3 for volumes.
        classes: The class for an `AutoencoderKL`, and that for a `MonaiAutoencoderKL`.

    Raises:
        ValueError: The autoencoder has other spatial dimensions.
    """
    config = MonaiAutoencoderKL.load_config(name, subfolder=subfolder or "")
    theirs = config.get("spatial_dims", 2)
    if theirs != spatial_dims:
        raise ValueError(f"{name} is an autoencoder in {theirs} dimensions; expected {spatial_dims}.")
    kind = classes[config["_class_name"] == MonaiAutoencoderKL.__name__]
    return kind.from_pretrained(name, subfolder=subfolder or "")


def autoencoder_image_range(name: str, subfolder: str | None) -> tuple[float, float]:
    """Values of the intensities 0 and 1 for the autoencoder of a repository.

    Args:
        name: Repository or folder.
        subfolder: Subfolder of the autoencoder in it; without one the repository is an autoencoder alone, which has
            `DEFAULT_RANGE`.
    """
    if not subfolder:
        return DEFAULT_RANGE
    try:
        low_and_high = DiffusionPipeline.load_config(name).get("image_range")
    except OSError:  # no model_index.json: the repository is no pipeline
        return DEFAULT_RANGE
    return (float(low_and_high["0"]), float(low_and_high["1"])) if low_and_high else DEFAULT_RANGE
