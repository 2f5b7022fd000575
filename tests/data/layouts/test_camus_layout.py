from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.small_subjects import files_below

from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.phantoms.cardiac import CardiacPhantom

SMALL = {"frames": 5, "shape": (40, 32), "spacing": 4.0}


def info(path: Path) -> dict[str, str]:
    return dict(line.split(": ") for line in path.read_text().splitlines())


def test_half_cycles_have_the_names_of_the_real_set(tmp_path: Path) -> None:
    folder = write_camus([7], tmp_path / "camus", half_cycle=True, **SMALL)
    views = [
        f"patient0007/patient0007_{view}_{part}{end}.nii.gz"
        for view in ("2CH", "4CH")
        for part in ("ED", "ES", "half_sequence")
        for end in ("", "_gt")
    ]
    assert files_below(folder) == sorted([*views, "patient0007/Info_2CH.cfg", "patient0007/Info_4CH.cfg"])


def test_full_cycles_have_the_names_of_the_real_set(tmp_path: Path) -> None:
    folder = write_camus([7], tmp_path / "ted", **SMALL)
    views = [
        f"patient007/patient007_{view}_{end}"
        for view in ("2CH", "4CH")
        for end in ("sequence.nii.gz", "sequence_gt.nii.gz", "info.cfg")
    ]
    assert files_below(folder) == sorted(views)


@pytest.mark.slow
def test_axes_are_across_the_beam_along_it_and_time(tmp_path: Path) -> None:
    folder = write_camus([3], tmp_path / "ted", **SMALL)
    phantom = CardiacPhantom(3, "2CH")
    phases = np.linspace(0, 1, 5)
    for end, frames in (
        ("", phantom.images(phases, (40, 32), 4.0)),
        ("_gt", phantom.labels(phases, (40, 32), 4.0)),
    ):
        image = nibabel.load(folder / f"patient003/patient003_2CH_sequence{end}.nii.gz")
        assert image.shape == (32, 40, 5)
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), frames.transpose(2, 1, 0))
        assert image.header.get_zooms() == (4.0, 4.0, 1.0)


def test_half_cycles_end_with_the_smallest_ventricle(tmp_path: Path) -> None:
    folder = write_camus([4], tmp_path / "camus", half_cycle=True, **SMALL) / "patient0004"

    def frames(part: str) -> np.ndarray:
        return np.asanyarray(nibabel.load(folder / f"patient0004_4CH_{part}.nii.gz").dataobj)

    for end in ("", "_gt"):
        sequence = frames(f"half_sequence{end}")
        np.testing.assert_array_equal(frames(f"ED{end}"), sequence[:, :, :1])
        np.testing.assert_array_equal(frames(f"ES{end}"), sequence[:, :, -1:])
    areas = (frames("half_sequence_gt") == 1).sum((0, 1))
    assert (areas.argmax(), areas.argmin()) == (0, 4)


@pytest.mark.slow
def test_the_cfg_file_counts_frames_from_one(tmp_path: Path) -> None:
    phantom = CardiacPhantom(4, "4CH")
    half = info(write_camus([4], tmp_path / "a", half_cycle=True, **SMALL) / "patient0004/Info_4CH.cfg")
    full = info(write_camus([4], tmp_path / "b", **SMALL) / "patient004/patient004_4CH_info.cfg")
    assert list(half) == ["ED", "ES", "NbFrame", "Sex", "Age", "ImageQuality", "EF", "FrameRate"]
    assert [half[key] for key in ("ED", "ES", "NbFrame")] == ["1", "5", "5"]
    areas = phantom.ground_truth(np.linspace(0, 1, 5))["lv_area"]
    assert [full[key] for key in ("ED", "ES", "NbFrame")] == ["1", str(areas.argmin() + 1), "5"]
    cycle = 60 / phantom.heart.cycle.heart_rate
    assert float(full["FrameRate"]) == pytest.approx(4 / cycle, abs=0.05)
    assert float(half["FrameRate"]) == pytest.approx(4 / (cycle * phantom.end_systole), abs=0.05)
    assert full["EF"] == str(round(100 * phantom.ejection_fraction))
    assert full["ImageQuality"] == phantom.heart.quality
    other = info(tmp_path / "a/patient0004/Info_2CH.cfg")
    assert [other[key] for key in ("Sex", "Age", "EF")] == [half[key] for key in ("Sex", "Age", "EF")]


@pytest.mark.slow
def test_every_patient_is_tested_once(tmp_path: Path) -> None:
    folder = write_camus(range(12), tmp_path / "ted", frames=3, shape=(16, 16), spacing=10.0)
    names = [f"patient{seed:03d}" for seed in range(12)]
    tested = []
    for number in range(1, 11):
        lists = [
            (folder / f"subGroup{number}_{part}.txt").read_text().split()
            for part in ("training", "validation", "testing")
        ]
        assert sorted(name for part in lists for name in part) == names
        assert all(lists)
        tested += lists[2]
    assert sorted(tested) == names
    assert not (folder / "subGroup11_testing.txt").exists()


@pytest.mark.slow
def test_a_subject_does_not_depend_on_the_others(tmp_path: Path) -> None:
    one = write_camus([2], tmp_path / "one", **SMALL) / "patient002"
    many = write_camus([5, 2], tmp_path / "many", **SMALL) / "patient002"
    for path in one.iterdir():
        images = path.suffix == ".gz"
        first, second = (
            np.asanyarray(nibabel.load(file).dataobj).tobytes() if images else file.read_bytes()
            for file in (path, many / path.name)
        )
        assert first == second


@pytest.mark.slow
def test_metaimage(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    folder = write_camus([1], tmp_path / "camus", half_cycle=True, ending=".mhd", **SMALL)
    image = itk.ReadImage(str(folder / "patient0001/patient0001_4CH_half_sequence_gt.mhd"))
    expected = CardiacPhantom(1).labels(CardiacPhantom(1).phases(5, half_cycle=True), (40, 32), 4.0)
    np.testing.assert_array_equal(itk.GetArrayFromImage(image), expected)
    assert image.GetSpacing() == (4.0, 4.0, 1.0)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, r"Got the seeds \[\]; expected different ones from 0 to 999, at least one"),
        ({"seeds": [1, 1]}, "expected different ones"),
        ({"seeds": [1000]}, "from 0 to 999"),
        ({"frames": 2}, "Got frames = 2; expected at least 3"),
        ({"ending": ".png"}, "Got the ending '.png'; expected one of .nii.gz, .mhd"),
    ],
)
def test_invalid_arguments_are_refused_before_writing(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_camus(**{"seeds": [1], "folder": tmp_path / "camus", **arguments})
    assert not (tmp_path / "camus").exists()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        write_camus([1], tmp_path)
