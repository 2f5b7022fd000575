"""Configuration of volumes: the data source, channels, covariates and voxel grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets

from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.datasets.labelled_config import PHANTOM
from meddiffusers.datasets.public.scans import load_scans
from meddiffusers.datasets.volumes import COVARIATES, phantom_volumes, scan_volumes
from meddiffusers.utils.settings import Range, check_fields, fewest, list_setting, setting


@dataclass
class VolumeDataConfig:
    """Data source, channels, covariates and voxel grid of volumes.

    Raises:
        ValueError: a value out of its range, or a modality or covariate that phantoms do not have.
    """

    dataset_name: str = setting(PHANTOM, "'phantom', or a folder of scans.")
    table: str | None = setting(None, "Table (.csv, .xlsx) of the folder: file names, subject, covariates.")
    modalities: list[str] = list_setting(["t1"], "Channels: modalities of phantoms, or columns of the folder.")
    covariates: list[str] = list_setting([*COVARIATES], "Columns with covariates of a subject, numbers or categories.")
    spacing: float = setting(2.0, "Edge length of a voxel in mm.")
    size: list[int] = list_setting([80, 96, 80], "Voxels along each axis; scans are cropped or padded to it.")
    max_train_samples: int | None = setting(None, "Number of training volumes to use, the first ones; by default all.")
    preprocessing_num_workers: int | None = setting(None, "Number of processes that prepare the data set.")
    phantom_volumes: int = setting(1000, "Number of training volumes of phantoms.")
    phantom_test_volumes: int = setting(200, "Number of test volumes of phantoms.")
    phantom_seed: int = setting(0, "Seed of the training subjects; the test subjects use the next one.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        phantom = self.dataset_name == PHANTOM
        unknown = (set(self.modalities) - set(MODALITIES)) | (set(self.covariates) - set(COVARIATES)) if phantom else ()
        if unknown or not self.modalities:
            raise ValueError(
                f"modalities={self.modalities} and covariates={self.covariates}; phantoms have the modalities "
                f"{', '.join(MODALITIES)} and the covariates {', '.join(COVARIATES)}."
            )
        if len(self.size) != 3 or min(self.size) < 1:
            raise ValueError(f"size={self.size}; expected numbers of voxels along three axes.")

    @property
    def planned_train_samples(self) -> int | None:
        """Largest number of training samples that the settings allow; None if only the data tell."""
        return fewest(self.phantom_volumes if self.dataset_name == PHANTOM else None, self.max_train_samples)


_COUNT = Range(1)
_RANGES = {
    "spacing": Range(0, open_low=True),
    "max_train_samples": _COUNT,
    "preprocessing_num_workers": _COUNT,
    "phantom_volumes": _COUNT,
    "phantom_test_volumes": _COUNT,
    "phantom_seed": Range(0),
}


def load_volume_data(config: VolumeDataConfig) -> datasets.DatasetDict:
    """Load the splits train and test, disjoint in subjects, with the rows of `volumes`.

    Raises:
        ValueError: the phantoms have another size than configured; see also `phantom_volumes` and `scan_volumes`.
    """
    data = _phantoms(config) if config.dataset_name == PHANTOM else _scans(config)
    if config.max_train_samples:
        data["train"] = data["train"].select(range(min(config.max_train_samples, len(data["train"]))))
    return data


def _phantoms(config: VolumeDataConfig) -> datasets.DatasetDict:
    settings: dict[str, Any] = {
        "spacing": config.spacing,
        "modalities": tuple(config.modalities),
        "num_proc": config.preprocessing_num_workers,
    }
    data = datasets.DatasetDict(
        train=phantom_volumes(config.phantom_volumes, config.phantom_seed, **settings),
        test=phantom_volumes(config.phantom_test_volumes, config.phantom_seed + 1, **settings),
    )
    size = list(data["train"].features["image"].shape[1:])
    if size != config.size:
        raise ValueError(f"size={config.size}; phantoms of {config.spacing:g} mm have {size}. Set size={size}.")
    return data


def _scans(config: VolumeDataConfig) -> datasets.DatasetDict:
    scans = load_scans(config.dataset_name, config.table, num_proc=config.preprocessing_num_workers)
    return datasets.DatasetDict(
        {
            name: scan_volumes(
                split,
                spacing=config.spacing,
                size=(config.size[0], config.size[1], config.size[2]),
                modalities=config.modalities,
                covariates=config.covariates,
                num_proc=config.preprocessing_num_workers,
            )
            for name, split in scans.items()
        }
    )
