"""Configuration of images with attributes: which data set, which attributes, which split."""

from __future__ import annotations

from dataclasses import dataclass

import datasets

from meddiffusers.datasets.attribute_images import load_attribute_images
from meddiffusers.datasets.attribute_measures import MEASURES
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting


@dataclass
class AttributeDataConfig:
    """Settings of the images and of their attributes."""

    dataset_name: str = setting(
        "digits",
        "'digits', 'cardiac_phantom', a CAMUS or ACDC folder, an .npz file of label stacks of ACDC, a folder of "
        "images, or a data set on the Hub.",
    )
    image_column: str = setting("image", "Column of the images.")
    attributes: list[str] = list_setting([], "Attributes; each gets a latent dimension. None: a plain VAE.")
    measure: str | None = setting(None, f"What measures attributes that are not columns: {', '.join(MEASURES)}.")
    split_seed: int = setting(0, "Seed of the split into training and held-out images.")
    spacing: float = setting(1.0, "Edge length of a pixel in mm, for attributes that are measured in mm.")
    sample_size: int = setting(28, "Height and width of the images in pixels.")
    cardiac_sequences: int | None = setting(None, "Number of cardiac cycles to train on, for cardiac data.")
    max_train_samples: int | None = setting(None, "Use only this many training images, the first ones.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)

    @property
    def planned_train_samples(self) -> int | None:
        """Largest number of training samples that the settings allow; None if only the data tell."""
        return self.max_train_samples


_RANGES = {
    "spacing": Range(0, open_low=True),
    "sample_size": Range(1),
    "cardiac_sequences": Range(1),
    "max_train_samples": Range(1),
}


def load_attribute_data(config: AttributeDataConfig) -> datasets.DatasetDict:
    """The splits train and test, with the columns of `load_attribute_images`. Raises as that function."""
    return load_attribute_images(
        config.dataset_name,
        attributes=config.attributes,
        measure=config.measure,
        image_column=config.image_column,
        seed=config.split_seed,
        max_samples=config.max_train_samples,
        size=config.sample_size,
        spacing=config.spacing,
        sequences=config.cardiac_sequences,
    )
