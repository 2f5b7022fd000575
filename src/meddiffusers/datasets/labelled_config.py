"""Configuration of labelled slices: the data source of images and masks, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from torch import Tensor

from meddiffusers.datasets.labelled_brats import brats_labelled_slices
from meddiffusers.datasets.labelled_images import load_labelled_images
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, phantom_labelled_slices
from meddiffusers.datasets.public.brats.names import cases_in
from meddiffusers.utils.settings import Range, check_fields, fewest, list_setting, setting

if TYPE_CHECKING:
    from meddiffusers.pipelines.anomaly_detection_pipeline import AnomalyDetectionPipeline
    from meddiffusers.pipelines.conditional_segmentation_pipeline import ConditionalSegmentationPipeline

PHANTOM, BRATS = "phantom", "brats"
PHANTOM_SHARES = {"tumour": 0.6, None: 0.15, "white_matter_lesions": 0.15, "cavity": 0.1}
PHANTOM_HEIGHTS = (-50.0, 65.0)  # mm, the whole brain
PHANTOM_SKULL = 0.3  # fraction of the subjects with a skull
HARD = (0.5, 1.0)  # range of difficulty of lesions


@dataclass
class LabelledDataConfig:
    """Data source, channels, classes and geometry of labelled slices.

    Raises:
        ValueError: a value out of its range.
    """

    dataset_name: str = setting(
        PHANTOM, "'phantom', 'brats' (with train_data_dir), a folder of images and masks, or a data set of the Hub."
    )
    train_data_dir: str | None = setting(None, "Folder of BraTS, of any year.")
    image_column: str = setting("image", "Column of the images.")
    mask_column: str = setting("mask", "Column of the masks: label ids, or 0 and 255.")
    modalities: list[str] = list_setting(["t1", "t1ce", "t2", "flair"], "Names of the channels, in their order.")
    classes: list[str] = list_setting(["tumour"], "Names of the labels 1, 2, …; of BraTS necrosis, oedema, enhancing.")
    resolution: int = setting(96, "Height and width of the images in pixels.")
    spacing: float | None = setting(None, "Edge length of a pixel in mm, to which scans are resampled.")
    foreground_share: float | None = setting(
        None, "Repeat images with foreground until they make up this fraction; by default none are repeated."
    )
    max_train_samples: int | None = setting(None, "Number of training images to use, the first ones; by default all.")
    preprocessing_num_workers: int | None = setting(None, "Number of processes that prepare the data set.")
    phantom_slices: int = setting(5000, "Number of training slices of phantoms, two per subject.")
    phantom_seed: int = setting(0, "Seed of the training subjects; the test subjects use the next one.")
    phantom_test_slices: int = setting(960, "Number of test slices of phantoms, two per subject.")
    phantom_test_difficulty: list[float] = list_setting([*HARD], "Least and greatest difficulty of the test lesions.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        low, high = self.phantom_test_difficulty if len(self.phantom_test_difficulty) == 2 else (1, 0)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"phantom_test_difficulty={self.phantom_test_difficulty}; expected two numbers from 0 to 1, the least "
                "and the greatest."
            )

    @property
    def planned_train_samples(self) -> int | None:
        """Largest number of training samples that the settings allow; None if only the data tell."""
        if self.foreground_share is not None:  # repeats images
            return None
        return fewest(self.phantom_slices if self.dataset_name == PHANTOM else None, self.max_train_samples)


_COUNT = Range(1)
_RANGES = {
    "resolution": _COUNT,
    "spacing": Range(0, open_low=True),
    "foreground_share": Range(0, 1, open_low=True, open_high=True),
    "max_train_samples": _COUNT,
    "preprocessing_num_workers": _COUNT,
    "phantom_slices": _COUNT,
    "phantom_seed": Range(0),
    "phantom_test_slices": _COUNT,
}


class LabelledImages:
    """Map-style data set of `{"image": (C, H, W) float32 in [0, 1], "masks": (R, H, W) uint8}` with R raters.

    Args:
        rows: labelled slices.
        foreground_share: repeat rows with foreground until they make up this fraction; if they already do, nothing is
            repeated.
    """

    def __init__(self, rows: datasets.Dataset, foreground_share: float | None = None) -> None:
        self.rows = rows.with_format("numpy")
        self.order = np.arange(len(rows))
        if foreground_share is not None:
            batches = self.rows.select_columns(["masks"]).iter(256)
            marked = np.concatenate([np.stack(batch["masks"]).any(axis=(1, 2, 3)) for batch in batches])
            target = round(np.count_nonzero(~marked) * foreground_share / (1 - foreground_share))
            more = target - np.count_nonzero(marked)
            if marked.any() and more > 0:
                self.order = np.concatenate([self.order, np.resize(np.flatnonzero(marked), more)])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        read = self.rows.select_columns(["image", "masks"])[self.order[indices].tolist()]
        images = torch.from_numpy(np.stack(read["image"]).astype(np.float32)) / INTENSITY_SCALE
        masks = torch.from_numpy(np.stack(read["masks"]).astype(np.uint8))
        return [{"image": image, "masks": mask} for image, mask in zip(images, masks, strict=True)]


def load_labelled_data(config: LabelledDataConfig) -> datasets.DatasetDict:
    """Load the splits train and test, disjoint in subjects, with the rows of `labelled_slices`.

    Raises:
        ValueError: BraTS without a folder or a spacing, a data set without one of the splits; see also
            `phantom_labelled_slices`, `brats_labelled_slices` and `load_labelled_images`.
    """
    if config.dataset_name == PHANTOM:
        return datasets.DatasetDict(train=load_train_split(config), test=load_test_split(config))
    data = _read(config)
    return datasets.DatasetDict(train=_select_train(data, config), test=_select_test(data, config))


def load_train_split(config: LabelledDataConfig) -> datasets.Dataset:
    """Load the train split; raises the errors of `load_labelled_data`."""
    if config.dataset_name != PHANTOM:
        return _select_train(_read(config), config)
    rows = phantom_labelled_slices(config.phantom_slices, config.phantom_seed, **_phantom_settings(config))
    return _first(rows, config)


def load_test_split(config: LabelledDataConfig) -> datasets.Dataset:
    """Load the test split; raises the errors of `load_labelled_data`."""
    if config.dataset_name == PHANTOM:
        seed, settings = config.phantom_seed + 1, _phantom_settings(config)
        low, high = config.phantom_test_difficulty
        return phantom_labelled_slices(config.phantom_test_slices, seed, difficulty=(low, high), **settings)
    return _select_test(_read(config), config)


def data_source(data: str) -> dict[str, Any]:
    """Configuration values of a data source: "phantom", a BraTS folder, or a data set of images and masks."""
    if cases_in(Path(data)):
        return {"dataset_name": BRATS, "train_data_dir": data}
    return {"dataset_name": data}


def load_test_split_for(
    pipeline: ConditionalSegmentationPipeline | AnomalyDetectionPipeline,
    data: str,
    classes: Sequence[str],
    *,
    recorded: Mapping[str, Any] | None = None,
    image_column: str = "image",
    mask_column: str = "mask",
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Load the test split in the modalities, resolution and spacing of a pipeline.

    Args:
        pipeline: whose input the slices are.
        data: "phantom", a BraTS folder, or a data set of images and masks.
        classes: names of the labels 1, 2, ….
        recorded: data settings that the repository was trained with, such as the number of phantoms.
        image_column: column of the images.
        mask_column: column of the masks.
        num_proc: number of processes.

    Raises:
        ValueError: see `load_labelled_data`.
    """
    own = {
        **data_source(data),
        "image_column": image_column,
        "mask_column": mask_column,
        "modalities": list(pipeline.modalities),
        "classes": list(classes),
        "resolution": pipeline.unet.config["sample_size"],
        "spacing": pipeline.config["spacing"],
        "preprocessing_num_workers": num_proc,
    }
    return load_test_split(LabelledDataConfig(**{**(recorded or {}), **own}))


def _read(config: LabelledDataConfig) -> datasets.DatasetDict:
    size, workers = (config.resolution, config.resolution), config.preprocessing_num_workers
    if config.dataset_name != BRATS:
        return load_labelled_images(
            config.dataset_name,
            size=size,
            modalities=config.modalities,
            classes=config.classes,
            image_column=config.image_column,
            mask_column=config.mask_column,
            num_proc=workers,
        )
    if config.train_data_dir is None or config.spacing is None:
        raise ValueError(
            f"{BRATS} needs its folder and the size of a pixel; got train_data_dir={config.train_data_dir!r} and "
            f"spacing={config.spacing!r}. Give --train_data_dir FOLDER --spacing MM."
        )
    return brats_labelled_slices(
        config.train_data_dir,
        size=size,
        spacing=config.spacing,
        modalities=config.modalities,
        classes=config.classes,
        num_proc=workers,
    )


def _select_train(data: datasets.DatasetDict, config: LabelledDataConfig) -> datasets.Dataset:
    if "train" not in data:
        raise ValueError(f"{config.dataset_name} has the splits {', '.join(data)}; expected train and a test split.")
    return _first(data["train"], config)


def _first(rows: datasets.Dataset, config: LabelledDataConfig) -> datasets.Dataset:
    return rows.select(range(min(config.max_train_samples or len(rows), len(rows))))


def _select_test(data: datasets.DatasetDict, config: LabelledDataConfig) -> datasets.Dataset:
    split = next((name for name in ("test", "validation") if name in data), None)
    if split is None:
        raise ValueError(
            f"{config.dataset_name} has the splits {', '.join(data)}; expected a test or a validation split."
        )
    masks = data[split].select_columns(["masks"]).with_format("numpy").iter(64)
    if not any(np.any(batch["masks"]) for batch in masks):
        raise ValueError(
            f"The split {split} of {config.dataset_name} has no foreground: nothing can be measured on it."
        )
    return data[split]


def _phantom_settings(config: LabelledDataConfig) -> dict[str, Any]:
    return {
        "size": config.resolution,
        "modalities": tuple(config.modalities),
        "classes": tuple(config.classes),
        "per_subject": 2,
        "shares": PHANTOM_SHARES,
        "heights": PHANTOM_HEIGHTS,
        "skull": PHANTOM_SKULL,
        "num_proc": config.preprocessing_num_workers,
    }
