"""Captioned slices: facts agree with the label map, for phantoms and for scans from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from meddiffusers.data.io import write
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.prompts import SliceFacts, read_prompt, write_prompt
from meddiffusers.data.regions import REGIONS, region_volumes
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.captioned_slices import facts_of, phantom_captioned_slices, scan_captioned_slices
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    template()  # from the cache of this machine, before it is replaced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.mark.slow
def test_a_phantom_is_a_row_in_each_modality() -> None:
    rows = phantom_captioned_slices(2, seed=3, size=32, modalities=("t1", "t2"), per_subject=2)
    assert len(rows) == 4 and rows.features["image"].shape == (1, 32, 32)
    read = [{name: np.array(row[name]) for name in ("image", "regions")} | {"facts": facts_of(row)} for row in rows]
    assert [row["facts"].modality for row in read] == ["t1", "t2", "t1", "t2"]
    for one, other in (read[:2], read[2:]):
        np.testing.assert_array_equal(one["regions"], other["regions"])
        assert not np.array_equal(one["image"], other["image"])
    for row in read:
        facts: SliceFacts = row["facts"]
        counted = region_volumes(row["regions"], 6.5 * 6.5)
        assert facts.volumes == {label: round(mm3) for label, mm3 in counted.items() if label in REGIONS} != {}
        assert facts.voxel == (6.5, 6.5, 1.0) and facts.sex in ("F", "M") and facts.age and facts.number
        assert row["image"].min() == 0 and row["image"].max() == INTENSITY_SCALE
        assert read_prompt(write_prompt(facts, 1)) == facts
    assert len(set(rows["subject"])) == 1


def scans(folder: Path, **columns: Any) -> datasets.Dataset:
    """Two scans of 8×8×5 voxels of 2×2×4 mm whose lowest and highest slices are empty, with label maps."""
    image, labels = np.zeros((8, 8, 5), np.float32), np.zeros((8, 8, 5), np.int16)
    image[1:7, 2:7, 1:4] = 1 + np.arange(6)[:, None, None]
    labels[1:4, 2:7, 1:4], labels[4:7, 2:7, 2] = 41, 2
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    for number in range(2):
        write(Scan(image * (1 + number), affine, "t1"), folder / f"{number}.nii.gz")
        write(Scan(labels, affine, LABELS), folder / f"{number}_seg.nii.gz")
    names = {"image": [str(folder / f"{n}.nii.gz") for n in range(2)]}
    names["labels"] = [name.replace(".nii", "_seg.nii") for name in names["image"]]
    rows = datasets.Dataset.from_dict({**names, "subject": ["a", "b"], **columns})
    return rows.cast_column("image", datasets.Nifti()).cast_column("labels", datasets.Nifti())


def test_scans_with_label_maps(tmp_path: Path) -> None:
    given = scans(tmp_path, modality=["t1", "flair"], sex=["F", None], age=[63.4, None])
    rows = scan_captioned_slices(given, spacing=2.0, size=(8, 6), labels_column="labels")
    assert len(rows) == 6 and rows["subject"][:] == ["a"] * 3 + ["b"] * 3
    facts = [facts_of(row) for row in rows]
    assert facts[1] == SliceFacts("t1", "F", 63, "axial", 2, (2, 2, 4), {2: 240, 41: 240})
    assert facts[3] == SliceFacts("flair", number=1, voxel=(2, 2, 4), volumes={41: 240})
    image, regions = np.array(rows[1]["image"]), np.array(rows[1]["regions"])
    assert image.shape == (1, 8, 6) and image.max() == INTENSITY_SCALE
    assert (regions == 2).sum() == (regions == 41).sum() == 15
    assert not image[0][regions == 0].any()


def test_scans_without_label_maps(tmp_path: Path) -> None:
    rows = scan_captioned_slices(scans(tmp_path), spacing=2.0, size=(8, 8), modality="t2", plane="coronal")
    facts = [facts_of(row) for row in rows]
    assert [each.number for each in facts[:5]] == [1, 2, 3, 4, 5] and len(facts) == 10
    assert facts[0] == SliceFacts("t2", plane="coronal", number=1, voxel=(2, 2, 2))
    assert not np.array(rows[0]["regions"]).any()


def test_what_scans_must_have(tmp_path: Path) -> None:
    given = scans(tmp_path)
    with pytest.raises(ValueError, match="have no column modality; they have image, labels, subject"):
        scan_captioned_slices(given, spacing=2.0, size=(8, 8))
    with pytest.raises(ValueError, match=r"Row 0: modality='x'; expected one of"):
        scan_captioned_slices(given, spacing=2.0, size=(8, 8), modality="x")
