"""Label maps: reading in any orientation, round trip through NIfTI, checks, and generation from them."""

from __future__ import annotations

from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
import torch
from helpers.small_latent_diffusion import of_images

from meddiffusers import LatentDiffusionPipeline
from meddiffusers.generation.bulk import CARD, GenerationConfig, generate
from meddiffusers.generation.label_maps import LabelMaps, label_image, sample_shape
from meddiffusers.generation.quality_filter import QualityFilter
from meddiffusers.utils.seeds import sample_seed

MAPS = np.zeros((3, 8, 8), np.uint8)
MAPS[0, 1:4, 5:7], MAPS[1, 6, 2], MAPS[2, :2, :3], MAPS[2, 0, 0] = 1, 4, 4, 1
CONFIG = GenerationConfig("me/model", 5, seed=3, shard_size=2, batch_size=2, settings={"num_inference_steps": 2})


def quiet() -> LatentDiffusionPipeline:
    pipeline = of_images(spacing=2.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def saved(folder: Path, *volumes: np.ndarray, spacing: float = 2.0, turn: tuple[int, int] = (1, 1)) -> Path:
    """Volumes (X, Y, Z), axes to the right and to the front unless turned."""
    for number, volume in enumerate(volumes):
        affine = np.diag([turn[0] * spacing, turn[1] * spacing, 3.0, 1.0])
        nibabel.Nifti1Image(volume[:: turn[0], :: turn[1]], affine).to_filename(folder / f"map-{number}.nii.gz")
    return folder


class TestReading:
    def test_the_maps_of_images_come_back(self, tmp_path: Path) -> None:
        affine = quiet()(output_type="nifti", num_inference_steps=1).images[0].affine
        for number, each in enumerate(MAPS):
            label_image(each, affine).to_filename(tmp_path / f"{number}.nii.gz")
        np.testing.assert_array_equal(LabelMaps.read(tmp_path, (8, 8), 2.0).maps, MAPS)

    @pytest.mark.parametrize("turn", [(1, 1), (-1, 1), (1, -1)])
    def test_left_is_left_however_it_was_stored(self, tmp_path: Path, turn: tuple[int, int]) -> None:
        volume = np.zeros((8, 8, 4), np.float32)
        volume[6, 1, 2] = 4  # of the head: right, back, third slice
        (found,) = LabelMaps.read(saved(tmp_path, volume, turn=turn), (8, 8), 2.0).maps
        assert found[6, 1] == 4 and found.sum() == 4  # rows from the front, columns from the right

    def test_whole_volumes_are_kept(self, tmp_path: Path) -> None:
        volume = np.arange(8 * 12 * 8, dtype=np.int16).reshape(8, 12, 8) % 3
        found = LabelMaps.read(saved(tmp_path, volume, volume, turn=(-1, 1)), (8, 12, 8), None).maps
        np.testing.assert_array_equal(found, [volume, volume])

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="There are no label maps"):
            LabelMaps.read(tmp_path, (8, 8), 2.0)
        (tmp_path / "other").mkdir()
        with pytest.raises(ValueError, match=r"has \(8, 8\) voxels of 3, 3 mm; expected \(8, 8\) of 2.0 mm"):
            LabelMaps.read(saved(tmp_path / "other", np.ones((8, 8, 1), np.uint8), spacing=3.0), (8, 8), 2.0)
        with pytest.raises(ValueError, match=r"has \(10, 8\) voxels"):
            LabelMaps.read(saved(tmp_path / "other", np.ones((8, 10, 1), np.uint8)), (8, 8), 2.0)
        with pytest.raises(ValueError, match="that are not labels"):
            LabelMaps.read(saved(tmp_path / "other", np.full((8, 8, 1), 0.5, np.float32)), (8, 8), 2.0)


class TestGenerating:
    def test_each_image_belongs_to_the_map_beside_it(self, tmp_path: Path) -> None:
        generate(quiet(), CONFIG, tmp_path, masks=LabelMaps(MAPS))
        data = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
        assert data["number"][:] == list(range(5))
        for number in (1, 4):
            mask = MAPS[number % 3]
            np.testing.assert_array_equal(data[number]["mask"].get_fdata()[:, :, 0].T, mask)
            noise = torch.Generator().manual_seed(sample_seed(3, number))
            alone = quiet()(mask=mask.astype(int), generator=noise, num_inference_steps=2, output_type="pt").images[0]
            stored = np.moveaxis(data[number]["image"].get_fdata()[:, :, 0], -1, 0).swapaxes(1, 2)
            np.testing.assert_allclose(stored, alone.numpy(), atol=2e-4)
            np.testing.assert_array_equal(data[number]["mask"].affine, data[number]["image"].affine)
        assert "from the label map in the column `mask`: 1 is core, 4 is rim" in (tmp_path / CARD).read_text()

    def test_begun_again_it_is_the_same_and_other_maps_are_refused(self, tmp_path: Path) -> None:
        generate(quiet(), CONFIG, tmp_path / "whole", masks=LabelMaps(MAPS))
        generate(quiet(), CONFIG, tmp_path / "again", masks=LabelMaps(MAPS))
        (tmp_path / "again" / "data" / "train-00001-of-00003.parquet").unlink()
        generate(quiet(), CONFIG, tmp_path / "again", masks=LabelMaps(MAPS))
        assert files(tmp_path / "again") == files(tmp_path / "whole")
        for other in (LabelMaps(MAPS[::-1]), None):
            with pytest.raises(ValueError, match="was begun with another masks"):
                generate(quiet(), CONFIG, tmp_path / "again", masks=other)

    def test_copies_are_found_whichever_way_the_axes_run(self, tmp_path: Path) -> None:
        known = quiet()(4, output_type="pt", num_inference_steps=1, generator=torch.Generator().manual_seed(1)).images
        quality_filter = QualityFilter.fit(known.numpy().swapaxes(2, 3), axis=1)
        pipeline = quiet()
        pipeline.decode = lambda latents: known[: len(latents)].flip(-1)
        generate(pipeline, CONFIG, tmp_path, quality_filter=quality_filter, masks=LabelMaps(MAPS))
        data = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
        assert all("copy" in each for each in data["issues"])

    def test_maps_of_another_model_are_refused_before_any_work(self, tmp_path: Path) -> None:
        assert sample_shape(quiet()) == (8, 8)
        for maps, message in (
            (MAPS[:, :4], r"maps of \(4, 8\) voxels; expected \(8, 8\)"),
            (MAPS + 1, "with the ids 2, 5; expected"),
        ):
            with pytest.raises(ValueError, match=message):
                generate(quiet(), CONFIG, tmp_path / "out", masks=LabelMaps(maps))
        with pytest.raises(ValueError, match="is not conditioned on label maps"):
            generate(of_images(None), CONFIG, tmp_path / "out", masks=LabelMaps(MAPS))
        assert not (tmp_path / "out").exists()
