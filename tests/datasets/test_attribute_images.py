from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch

from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.digit_attributes import measure_digits


def block(side: int) -> np.ndarray:
    """A white square of `side` px on 16×16."""
    image = np.zeros((16, 16), np.uint8)
    image[2 : 2 + side, 2 : 2 + side] = 255
    return image


def write_folder(folder: Path, images: list[Any], suffix: str = ".png", **columns: list[Any]) -> str:
    """Images (arrays or PIL) as files, in an imagefolder's layout; the metadata file only where there are columns."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:03}{suffix}" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        (image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)).save(folder / name)
    if columns:
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", *columns])
            writer.writerows(zip(names, *columns.values(), strict=True))
    return str(folder)


def split_of(**columns: list[Any]) -> datasets.Dataset:
    features = datasets.Dataset.from_dict({key: value for key, value in columns.items() if key != "image"}).features
    features["image"] = datasets.Image()
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten squares of 3 to 12 px; `side` is stored, and a thickness that no measurement would give."""
    sides = list(range(3, 13))
    folder = tmp_path_factory.mktemp("images") / "squares"
    return write_folder(folder, [block(side) for side in sides], side=sides, thickness=[-1.0 * side for side in sides])


def test_digits_come_measured_and_split() -> None:
    data = load_attribute_images("digits", attributes=["slant", "area"])
    assert {name: len(part) for name, part in data.items()} == {"train": 4000, "test": 1000}
    images = AttributeImages(data["test"].select(range(5)), ["slant", "area"], "image", channels=1)
    assert (images.images.shape, images.images.dtype) == ((5, 1, 28, 28), torch.uint8)
    np.testing.assert_array_equal(images.attributes, measure_digits(images.images[:, 0].numpy())[:, [3, 0]])


def test_a_folder_with_a_table_of_attributes(squares: str) -> None:
    data = load_attribute_images(squares, attributes=["side"])
    assert {name: len(part) for name, part in data.items()} == {"train": 8, "test": 2}
    for part in data.values():
        images = AttributeImages(part, ["side"], "image", channels=1)
        assert images.attributes.dtype == np.float64
        np.testing.assert_array_equal(np.sqrt((images.images == 255).sum(dim=(1, 2, 3))), images.attributes[:, 0])


def test_an_item_is_an_image_and_its_attributes(squares: str) -> None:
    images = AttributeImages(load_attribute_images(squares, attributes=["side"])["train"], ["side"], "image", 1)
    item = images[2]
    assert torch.equal(item["images"][0], torch.from_numpy(block(int(item["attributes"][0]))))
    assert len(images) == 8


def test_the_split_depends_on_the_seed_alone(squares: str) -> None:
    first, again, other = (
        sorted(load_attribute_images(squares, attributes=["side"], seed=seed)["test"]["side"]) for seed in (0, 0, 3)
    )
    assert first == again != other


@pytest.mark.parametrize("column", ["subject", "Patient ID", "participant_id"])
def test_a_subject_is_in_one_split(tmp_path: Path, column: str) -> None:
    columns = {column: [f"p{index // 5}" for index in range(20)], "side": [3 + index % 5 for index in range(20)]}
    folder = write_folder(tmp_path, [block(side) for side in columns["side"]], **columns)
    data = load_attribute_images(folder, attributes=["side"], test_fraction=0.5)
    train, test = ({*split[column]} for split in data.values())
    assert (len(train), len(test), train & test) == (2, 2, set())


def test_images_without_subjects_are_split_one_by_one_and_this_is_told(
    squares: str, caplog: pytest.LogCaptureFixture
) -> None:
    load_attribute_images(squares, attributes=["side"])
    assert "has no column of subjects: each image counts as one" in caplog.text


def test_subjects_that_lack_a_name_or_are_in_both_of_the_own_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "a", [block(3), block(4), block(5)], subject=["p1", "", "p2"])
    with pytest.raises(ValueError, match=r"has rows without subject: 1; expected whose image each is"):
        load_attribute_images(folder, attributes=[])
    write_folder(tmp_path / "b" / "train", [block(3), block(4)], subject=["p1", "p2"])
    write_folder(tmp_path / "b" / "test", [block(5)], subject=["p2"])
    load_attribute_images(str(tmp_path / "b"), attributes=[])
    assert "1 subjects are in several of its splits (p2): what is measured on them was seen" in caplog.text


def test_files_named_twice_are_refused(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path, [block(3), block(4), block(5)], side=[3, 4, 5]))
    with (folder / "metadata.csv").open("a") as file:
        file.write((folder / "metadata.csv").read_text().splitlines()[1] + "\n")
    with pytest.raises(ValueError, match=r"names files more than once: .*; expected one row for each image"):
        load_attribute_images(str(folder), attributes=["side"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,side\n0.png,1\n9.png,2\n", r"metadata\.csv names files that do not exist: 9\.png; expected them"),
        (
            "file_name,side\n0.png,1\n../../x,2\n",
            r"metadata\.csv: the table names '\.\./\.\./x'; expected a path below the folder",
        ),
        ("name,side\n0.png,1\n", r"metadata\.csv has the columns name, side; expected file_name"),
        ("file_name,side\n", r"metadata\.csv has no rows; expected file_name"),
        ("", r"metadata\.csv is no table that can be read \(EmptyDataError\)"),
        ("file_name,side\n0.png,1,2,3\n0.png,1\n1.png,1,2,3,4\n", r"metadata\.csv is no table that can be read"),
        ("file_name,größe\n0.png,1\n", r"is no table that can be read \(UnicodeDecodeError\); .* CSV in UTF-8"),
    ],
)
def test_damaged_tables_of_images_are_named(tmp_path: Path, text: str, message: str) -> None:
    folder = Path(write_folder(tmp_path, [block(3), block(4)], side=[3, 4]))
    for number, image in enumerate(sorted(folder.glob("*.png"))):
        image.rename(folder / f"{number}.png")
    (folder / "metadata.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        load_attribute_images(str(folder), attributes=[])


def test_semicolons_and_decimal_commas_in_metadata_are_named(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path / "a", [block(3), block(4)], side=[3, 4]))
    text = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(text.replace(",", ";"))
    with pytest.raises(ValueError, match=r"metadata\.csv is separated by ';'; expected commas, and points in decimal"):
        load_attribute_images(str(folder), attributes=["side"])
    split = split_of(image=[block(3), block(4)], a=["1,5", "2,5"])
    with pytest.raises(ValueError, match=r"'a' holds '1,5'; expected numbers with a point for decimals, not a comma"):
        AttributeImages(split, ["a"], "image", channels=1)


def test_a_folder_that_is_split_stays_so(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", [block(side) for side in (3, 4, 5)], side=[3, 4, 5])
    write_folder(tmp_path / "test", [block(6)], side=[6])
    data = load_attribute_images(str(tmp_path), attributes=["side"])
    assert list(data["train"]["side"]) == [3, 4, 5]
    assert list(data["test"]["side"]) == [6]


def test_a_folder_without_a_training_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "test", [block(3), block(4)])
    with pytest.raises(ValueError, match=r"has no split 'train'; it has test\. Rename one"):
        load_attribute_images(str(tmp_path), attributes=[])


def test_max_samples_limits_training_images_alone(squares: str) -> None:
    data = load_attribute_images(squares, attributes=["side"], max_samples=3)
    whole = load_attribute_images(squares, attributes=["side"])
    assert list(data["train"]["side"]) == list(whole["train"]["side"])[:3]
    assert len(data["test"]) == 2
    assert len(load_attribute_images(squares, attributes=["side"], max_samples=99)["train"]) == 8


@pytest.mark.slow
def test_a_measure_fills_in_what_is_no_column(squares: str) -> None:
    data = load_attribute_images(squares, attributes=["side", "area", "thickness"], measure="digits")
    part = data["train"]
    pixels = np.stack([np.asarray(image) for image in part["image"]])
    np.testing.assert_array_equal(part["area"], measure_digits(pixels)[:, 0])
    np.testing.assert_array_equal(part["thickness"], -np.array(part["side"]))  # as stored
    assert "length" not in part.column_names


def test_images_without_attributes(tmp_path: Path) -> None:
    data = load_attribute_images(write_folder(tmp_path, [block(side) for side in (3, 4, 5, 6, 7)]), attributes=[])
    images = AttributeImages(data["train"], [], "image", channels=1)
    assert images.attributes.shape == (4, 0)
    assert images[0]["attributes"].shape == (0,)


def test_colour_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    data = load_attribute_images(write_folder(tmp_path, list(pixels), number=[0, 1, 2, 3, 4]), attributes=["number"])
    with pytest.raises(ValueError, match=r"an image with colours; expected grey values\. Convert it .* or use three"):
        AttributeImages(data["train"], ["number"], "image", channels=1)
    images = AttributeImages(data["train"], ["number"], "image", channels=3)
    rows = images.attributes[:, 0].astype(int)
    assert torch.equal(images.images, torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_values_saved_as_colours_are_grey(mode: str) -> None:
    grey = PIL.Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    images = AttributeImages(split_of(image=[grey.convert(mode)]), [], "image", channels=1).images
    assert images.tolist() == [[np.asarray(grey).tolist()]]
    assert AttributeImages(split_of(image=[grey]), [], "image", channels=3).images.shape == (1, 3, 8, 8)


def test_a_palette_is_colours_for_images_and_labels_for_label_maps() -> None:
    palette = PIL.Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    split = split_of(image=[palette])
    assert AttributeImages(split, [], "image", channels=None).images.tolist() == [[[0, 1], [2, 1]]]
    colours = AttributeImages(split, [], "image", channels=3).images
    assert colours.tolist() == [[[[0, 255], [0, 255]], [[0, 0], [255, 0]], [[0, 0], [0, 0]]]]


def test_sixteen_bit_images_keep_their_values(tmp_path: Path) -> None:
    pixels = np.array([[0, 1000], [40000, 65535]], np.uint16)
    data = load_attribute_images(write_folder(tmp_path, [pixels] * 5), attributes=[])
    images = AttributeImages(data["train"], [], "image", channels=1).images
    assert images.dtype == torch.uint16
    np.testing.assert_array_equal(images[0, 0].numpy(), pixels)


def test_images_that_lack_an_attribute_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    split = split_of(image=[block(side) for side in (3, 4, 5, 6)], a=[1.0, None, 2.0, 3.0], b=[1.0, 5.0, np.nan, 2.0])
    images = AttributeImages(split, ["a", "b"], "image", channels=1)
    assert images.left_out == 2
    np.testing.assert_array_equal(images.attributes, [[1, 1], [3, 2]])
    assert torch.equal(images.images[:, 0], torch.from_numpy(np.stack([block(3), block(6)])))
    assert "2 of 4 images are left out: they lack an attribute." in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "heart"}, r"measure='heart' is unknown\. Expected one of digits"),
        ({"image_column": "scan"}, r"has no column 'scan'; it has image, side, thickness\. Set image_column"),
        (
            {"attributes": ["side", "area", "roundness"]},
            r"no column for area, roundness, and measure=None does not provide them\. It has image, side, thickness; "
            r"measures are digits",
        ),
        ({"attributes": ["roundness"], "measure": "digits"}, r"no column for roundness, and measure='digits' does not"),
    ],
)
def test_what_is_not_there_is_named(squares: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_attribute_images(squares, **{"attributes": ["side"], **settings})


def test_no_such_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises((FileNotFoundError, ConnectionError), match="nowhere"):
        load_attribute_images(str(tmp_path / "nowhere"), attributes=[])


def test_images_of_several_sizes() -> None:
    split = split_of(image=[block(3), block(3)[:12]])
    with pytest.raises(ValueError, match=r"Images of 2 shapes, such as \[\(12, 16\), \(16, 16\)\]; expected one"):
        AttributeImages(split, [], "image", channels=1)


def test_images_of_several_sizes_are_not_measured(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [block(side)[: 10 + side] for side in (3, 4, 5, 6, 7)])
    with pytest.raises(ValueError, match=r"Images of [2-4] shapes, such as .*Resize or crop them"):
        load_attribute_images(folder, attributes=["area"], measure="digits")


def test_pixels_that_are_no_number(tmp_path: Path) -> None:
    whole, broken = np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)
    broken[0, 0], broken[1, 1] = np.nan, np.inf
    folder = write_folder(tmp_path / "train", [whole, broken, whole], suffix=".tiff")
    split = load_attribute_images(folder, attributes=[], test_fraction=0.01)
    everything = datasets.concatenate_datasets(list(split.values()))
    with pytest.raises(ValueError, match="1 images have pixels that are NaN or infinite"):
        AttributeImages(everything, [], "image", channels=1)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["thin", "thick", "thin"], r"Attribute column 'a' holds 'thin'; expected numbers"),
        ([None, np.nan, None], r"Every image lacks a number for one of a\. Check the columns"),
        ([2.0, 2.0, None], r"a: the same for all images, so no latent can encode it"),
    ],
)
def test_attributes_that_cannot_be_followed(column: list[Any], message: str) -> None:
    split = split_of(image=[block(3), block(4), block(5)], a=column)
    with pytest.raises(ValueError, match=message):
        AttributeImages(split, ["a"], "image", channels=1)
