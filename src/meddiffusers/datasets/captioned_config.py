"""Configuration of captioned slices: the data source of text-to-image models, and how slices are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.phantom import FIELD_OF_VIEW
from meddiffusers.data.preprocessing.slices import Plane
from meddiffusers.datasets.captioned_slices import phantom_captioned_slices, scan_captioned_slices
from meddiffusers.datasets.labelled_config import PHANTOM
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.datasets.public.scans import load_scans
from meddiffusers.utils.settings import Range, check_fields, fewest, list_setting, setting


@dataclass
class CaptionedDataConfig:
    """Data source and geometry of captioned slices.

    Raises:
        ValueError: a value out of its range, unknown modalities, or scans without a spacing.
    """

    dataset_name: str = setting(PHANTOM, "'phantom', or a folder of scans.")
    table: str | None = setting(None, "Table (.csv, .xlsx) of the folder: file_name, subject, modality, sex, age.")
    image_column: str = setting("image", "Column of the scans.")
    labels_column: str | None = setting(None, "Column of label maps with FreeSurfer's ids, if any.")
    modality: str | None = setting(None, "Modality of all scans, if the table has no column modality.")
    plane: Plane = setting("axial", "Plane of the slices: axial, coronal or sagittal.")
    resolution: int = setting(96, "Height and width of the images in pixels.")
    spacing: float | None = setting(None, "Edge length of a pixel in mm, to which scans are resampled.")
    max_train_samples: int | None = setting(None, "Number of training images to use, the first ones; by default all.")
    preprocessing_num_workers: int | None = setting(None, "Number of processes that prepare the data set.")
    phantom_slices: int = setting(4000, "Number of training slices of phantoms.")
    phantom_slices_per_subject: int = setting(2, "Training slices per phantom; several save time.")
    phantom_test_slices: int = setting(256, "Number of test slices of phantoms, one per subject.")
    phantom_seed: int = setting(0, "Seed of the training subjects; the test subjects use the next one.")
    phantom_modalities: list[str] = list_setting(["t1", "t2", "flair"], "Modalities of each phantom slice.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        unknown = set(self.phantom_modalities) - set(MODALITIES)
        if unknown or not self.phantom_modalities:
            raise ValueError(f"phantom_modalities={self.phantom_modalities}; expected some of {', '.join(MODALITIES)}.")
        if self.dataset_name == PHANTOM:
            self.spacing = self.spacing or FIELD_OF_VIEW / self.resolution
        elif self.spacing is None:
            raise ValueError(f"Scans in {self.dataset_name} are resampled to square pixels. Give --spacing MM.")

    @property
    def planned_train_samples(self) -> int | None:
        """Largest number of training samples that the settings allow; None if only the data tell."""
        images = self.phantom_slices * len(self.phantom_modalities) if self.dataset_name == PHANTOM else None
        return fewest(images, self.max_train_samples)


_COUNT = Range(1)
_RANGES = {
    "resolution": _COUNT,
    "spacing": Range(0, open_low=True),
    "max_train_samples": _COUNT,
    "preprocessing_num_workers": _COUNT,
    "phantom_slices": _COUNT,
    "phantom_slices_per_subject": _COUNT,
    "phantom_test_slices": _COUNT,
    "phantom_seed": Range(0),
}


def load_captioned_data(config: CaptionedDataConfig) -> datasets.DatasetDict:
    """Load the splits train and test, disjoint in subjects, with the rows of `captioned_slices`.

    Raises:
        ValueError: see `phantom_captioned_slices` and `scan_captioned_slices`.
    """
    data = _phantoms(config) if config.dataset_name == PHANTOM else _scans(config)
    if config.max_train_samples:
        data["train"] = data["train"].select(range(min(config.max_train_samples, len(data["train"]))))
    return data


class CaptionedImages:
    """Map-style data set of the images without captions: `{"image": (1, H, W) float32 in [0, 1]}`."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self.rows = rows.select_columns(["image"]).with_format("numpy")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        images = np.stack(self.rows[indices]["image"]).astype(np.float32) / INTENSITY_SCALE
        return [{"image": image} for image in torch.from_numpy(images)]


def _phantoms(config: CaptionedDataConfig) -> datasets.DatasetDict:
    settings: dict[str, Any] = {
        "size": config.resolution,
        "modalities": tuple(config.phantom_modalities),
        "num_proc": config.preprocessing_num_workers,
    }
    per_subject = config.phantom_slices_per_subject
    return datasets.DatasetDict(
        train=phantom_captioned_slices(config.phantom_slices, config.phantom_seed, per_subject=per_subject, **settings),
        test=phantom_captioned_slices(config.phantom_test_slices, config.phantom_seed + 1, **settings),
    )


def _scans(config: CaptionedDataConfig) -> datasets.DatasetDict:
    data = load_scans(config.dataset_name, config.table, num_proc=config.preprocessing_num_workers)
    return datasets.DatasetDict(
        {
            name: scan_captioned_slices(
                split,
                spacing=config.spacing or 1.0,
                size=(config.resolution, config.resolution),
                plane=config.plane,
                image_column=config.image_column,
                labels_column=config.labels_column,
                modality=config.modality,
                num_proc=config.preprocessing_num_workers,
            )
            for name, split in data.items()
        }
    )
