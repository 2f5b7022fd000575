"""What may be published is a list: identifiers planted anywhere else, or inside listed files, reach no Hub."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import torch
from helpers.hub_fixtures import FACTS, REPORT, copy, tiny_pipeline
from safetensors import safe_open
from safetensors.torch import save_file

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.datasets.volume_config import VolumeDataConfig
from meddiffusers.hub import RepositoryError, publish, write_repository
from meddiffusers.hub.publication import publication_issues
from meddiffusers.hub.publishable_settings import known_settings
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.training import TrainingConfig
from meddiffusers.training.tasks.attribute_vae.model import AttributeVAEConfig

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
NAME = "Mueller^Hans"
CONFIG, WEIGHTS, FIGURE = "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "figures/0.png"
DATASET = "(0010,0010) PN [Mueller^Hans]"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole repository with the record of its training; not to be changed."""
    folder = tmp_path_factory.mktemp("sound") / "repository"
    data = AttributeDataConfig("phantom", attributes=["slant", "width"])
    record = TrainingRecord.of(data, AttributeVAEConfig(), TrainingConfig())
    return write_repository(tiny_pipeline(), REPORT, FACTS, folder, record)


@pytest.fixture
def folder(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to plant something in, without a Hub."""
    module = importlib.import_module("meddiffusers.hub.publish")
    monkeypatch.setattr(module, "HfApi", lambda **_: pytest.fail("the Hub was called"))
    return copy(sound, tmp_path / "repository")


Plant = Callable[[Path], Any]


def written(name: str, content: str | bytes) -> Plant:
    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return plant


def replaced(name: str, old: str, new: str) -> Plant:
    def plant(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return plant


def edited(name: str, change: Callable[[Any], Any]) -> Plant:
    def plant(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content, indent=2))

    return plant


def recorded(change: Callable[[dict[str, Any]], Any]) -> Plant:
    """A change of the training record, which is written as training writes it."""

    def plant(folder: Path) -> None:
        record = TrainingRecord.read(folder)
        assert record
        sections = record.sections()
        change(sections)
        TrainingRecord(**sections).save(folder)

    return plant


def nifti(folder: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = NAME.encode()
    image.to_filename(folder / "scan.nii.gz")


def dicom_without_preamble(folder: Path) -> None:
    element = struct.pack("<HHL", 0x0010, 0x0010, len(NAME)) + NAME.encode()
    (folder / "IM0002").write_bytes(element)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", NAME)


def png(**options: Any) -> Plant:
    return lambda folder: PIL.Image.new("L", (4, 4)).save(folder / FIGURE, **options)


def png_text(compressed: bool = False) -> Plant:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Patient", NAME, zip=compressed)
    return png(pnginfo=info)


def png_international(folder: Path) -> None:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("Patient", NAME)
    png(pnginfo=info)(folder)


def png_exif(folder: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = NAME
    png(exif=exif)(folder)


def png_chunk(kind: bytes, content: bytes) -> Plant:
    """A chunk behind the first one."""

    def plant(folder: Path) -> None:
        data = (folder / FIGURE).read_bytes()
        chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        (folder / FIGURE).write_bytes(data[:33] + chunk + data[33:])

    return plant


def png_rows_behind_the_last(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(20) + NAME.encode())), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks]
    (folder / FIGURE).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def png_end(folder: Path) -> None:
    with (folder / FIGURE).open("ab") as file:
        file.write(NAME.encode())


def weights(metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> Plant:
    def plant(folder: Path) -> None:
        with safe_open(folder / WEIGHTS, "pt") as file:
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file({**held, **tensors}, folder / WEIGHTS, metadata)

    return plant


def header(change: Callable[[str], str]) -> Plant:
    """A change of the header's text."""

    def plant(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        text = change(data[8 : 8 + length].decode()).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return plant


def linked(name: str, target: str) -> Plant:
    def plant(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return plant


UNLISTED: dict[str, Plant] = {
    "subjects.csv": written("subjects.csv", "PatientID,age\n4711,30\n"),
    "subjects.tsv": written("subjects.tsv", "PatientID\tage\n4711\t30\n"),
    "NOTES.TXT": written("NOTES.TXT", DATASET),
    "run.log": written("run.log", "PatientName: Hans"),
    "scan.xml": written("scan.xml", "<PatientName>Hans</PatientName>"),
    "patient.py": written("patient.py", "PATIENT = 'Hans'"),
    "notebook.ipynb": written("notebook.ipynb", json.dumps({"cells": [{"source": [NAME]}]})),
    "subjects.xlsx": written("subjects.xlsx", b"PK\x03\x04" + NAME.encode()),
    "rows.parquet": written("rows.parquet", b"PAR1" + NAME.encode()),
    "scan.nii.gz": nifti,
    "scan.nrrd": written("scan.nrrd", f"NRRD0004\nPatientName:={NAME}\n\n"),
    "scan.mha": written("scan.mha", f"ObjectType = Image\nPatientName = {NAME}\n"),
    "IM0001": written("IM0001", bytes(128) + b"DICM" + NAME.encode()),
    "IM0002": dicom_without_preamble,
    "notes.zip": zipped,
    "notes.txt.gz": written("notes.txt.gz", gzip.compress(NAME.encode())),
    "README": written("README", NAME),
    "Mueller_Hans": written("Mueller_Hans", ""),
    "report.pdf": written("report.pdf", b"%PDF-1.7 " + NAME.encode()),
    "page.html": written("page.html", NAME),
    "figures/0.jpg": written("figures/0.jpg", b"\xff\xd8\xff" + NAME.encode()),
    "figures/notes.json": written("figures/notes.json", "{}"),
    "vae/scan.json": written("vae/scan.json", '{\n"OperatorsName":\n"Hans"\n}'),
    "vae/notes.yaml": written("vae/notes.yaml", f"# {NAME}"),
    "vae/deep/config.json": written("vae/deep/config.json", "{}"),
    "vae/meddiffusers_attribute_vae_v9.py": written("vae/meddiffusers_attribute_vae_v9.py", f"# {NAME}"),
    "hans/model.safetensors": written("hans/model.safetensors", b""),
    "vae/model_hans.safetensors": written("vae/model_hans.safetensors", b""),
    "hans/LICENSE": written("hans/LICENSE", "x"),
    "figures/Mueller_Hans.png": lambda folder: (folder / FIGURE).rename(folder / "figures/Mueller_Hans.png"),
    "optimizer.pt": written("optimizer.pt", b"\x80\x04" + NAME.encode()),
    "manifest.json": written("manifest.json", "{}"),
}
INSIDE: dict[str, tuple[Plant, str]] = {
    "text in PNG": (png_text(), FIGURE),
    "compressed text in PNG": (png_text(compressed=True), FIGURE),
    "international text in PNG": (png_international, FIGURE),
    "EXIF in PNG": (png_exif, FIGURE),
    "private chunk of PNG": (png_chunk(b"meDi", NAME.encode()), FIGURE),
    "long chunk of PNG": (png_chunk(b"gAMA", NAME.encode()), FIGURE),
    "behind the end of PNG": (png_end, FIGURE),
    "behind the rows of PNG": (png_rows_behind_the_last, FIGURE),
    "no PNG": (written(FIGURE, NAME), FIGURE),
    "metadata of weights": (weights({"format": "pt", "patient": NAME}), WEIGHTS),
    "format of weights": (weights({"format": NAME}), WEIGHTS),
    "name of a tensor": (weights(**{NAME: torch.zeros(1)}), WEIGHTS),
    "entry of a tensor": (header(lambda text: text.replace('{"dtype"', '{"of":"Hans","dtype"', 1)), WEIGHTS),
    "metadata twice": (header(lambda text: '{"__metadata__":{"a":"Hans"},' + text[1:]), WEIGHTS),
    "settings of an adapter": (weights({"format": "pt", "lora_adapter_metadata": '{"unet.hans": 1}'}), WEIGHTS),
    "extra key": (edited(CONFIG, lambda config: config.update(hans="x")), CONFIG),
    "private key": (edited(CONFIG, lambda config: config.update(_patient="Hans")), CONFIG),
    "person in a setting": (edited(CONFIG, lambda config: config.update(attributes=["slant", NAME])), CONFIG),
    "path in a setting": (edited(CONFIG, lambda config: config.update(likelihood="/home/mueller/x")), CONFIG),
    "key twice": (replaced(CONFIG, "{", '{"likelihood": "Hans",'), CONFIG),
    "class that is none": (edited(CONFIG, lambda config: config.update(_class_name="Hans")), CONFIG),
    "version that is none": (edited(CONFIG, lambda config: config.update(_diffusers_version="Hans")), CONFIG),
    "extra key of the index": (edited("model_index.json", lambda index: index.update(hans=1)), "model_index.json"),
    "pair in the index": (edited("model_index.json", lambda index: index.update(a=["Hans", "M"])), "model_index.json"),
    "comment in YAML": (replaced("training_config.yaml", "data:", f"data: # {NAME}"), "training_config.yaml"),
    "comment above": (replaced("training_config.yaml", "data:", "# Hans\ndata:"), "training_config.yaml"),
    "extra setting": (recorded(lambda record: record["data"].update(patient="Hans")), "training_config.yaml"),
    "path of a setting": (
        recorded(lambda record: record["data"].update(dataset_name="/home/mueller/scans")),
        "training_config.yaml",
    ),
    "setting of a path": (recorded(lambda record: record["training"].update(output_dir="x")), "training_config.yaml"),
    "extra section below": (
        recorded(
            lambda record: record.update(started_from={"vae": {"data": {"hans": 1}, "model": {}, "training": {}}})
        ),
        "training_config.yaml",
    ),
    "extra section": (edited("metrics.json", lambda report: report.update(patient="Hans")), "metrics.json"),
    "extra fact": (edited("metrics.json", lambda report: report["run"].update(operator="Hans")), "metrics.json"),
    "person in a note": (edited("metrics.json", lambda r: r["metrics"][0].update(note=NAME)), "metrics.json"),
    "date in details": (edited("metrics.json", lambda r: r["details"].update(day="1970-01-31")), "metrics.json"),
    "UID in details": (edited("metrics.json", lambda r: r["details"].update(a="1.2.840.113619.2.1")), "metrics.json"),
    "e-mail in details": (edited("metrics.json", lambda r: r["details"].update(a="hans@m.org")), "metrics.json"),
    "attribute in details": (edited("metrics.json", lambda r: r["details"].update(PatientID="7")), "metrics.json"),
    "operator in the card": (replaced("README.md", "# ", "OperatorsName: Hans\n\n# "), "README.md"),
    "station in the card": (replaced("README.md", "# ", "| StationName | MR1 |\n\n# "), "README.md"),
    "age in the card": (replaced("README.md", "# ", "PatientAge=045Y\n\n# "), "README.md"),
    "home in the card": (replaced("README.md", "# ", "`/home/mueller/scans`\n\n# "), "README.md"),
    "person in the card": (replaced("README.md", "# ", f"<!-- {NAME} -->\n\n# "), "README.md"),
    "licence": (written("LICENSE", "Patient ID: 4711"), "LICENSE"),
    "tokenizer settings": (written("vae/tokenizer_config.json", '{"hans": 1}'), "vae/tokenizer_config.json"),
    "long token": (written("vae/vocab.txt", "a" * 300), "vae/vocab.txt"),
    "link to a file": (linked("LICENSE", "/etc/hostname"), "LICENSE"),
    "link in place of the card": (linked("README.md", "/etc/hostname"), "README.md"),
    "link to a folder": (linked("more", "/etc"), "more"),
    "link to nothing": (linked("figures/9.png", "nowhere"), "figures/9.png"),
    "pipe": (lambda folder: os.mkfifo(folder / "LICENSE"), "LICENSE"),
}


@pytest.mark.parametrize("name", UNLISTED)
def test_a_file_that_is_not_on_the_list_is_refused_with_its_name(folder: Path, name: str) -> None:
    UNLISTED[name](folder)
    with pytest.raises(RepositoryError) as error:
        publish(folder, "tester/tiny")
    assert any(issue.startswith(name) for issue in error.value.issues), error.value.issues


@pytest.mark.parametrize("plant,name", INSIDE.values(), ids=INSIDE)
def test_what_is_planted_in_a_listed_file_is_refused_with_its_name(folder: Path, plant: Plant, name: str) -> None:
    plant(folder)
    with pytest.raises(RepositoryError) as error:
        publish(folder, "tester/tiny")
    assert any(issue.startswith(name) for issue in error.value.issues), error.value.issues


def test_a_sound_repository_may_be_published(sound: Path) -> None:
    assert publication_issues(sound) == []


@pytest.mark.parametrize("name", sorted(path.name for path in CHECKPOINTS.iterdir()))
def test_the_shipped_repositories_may_be_published(name: str) -> None:
    assert publication_issues(CHECKPOINTS / name) == []


@pytest.mark.parametrize(
    "change",
    [{"patient": "Hans"}, {"added_tokens": [{"id": 0, "content": "[PAD]", "of": "Hans"}]}, {"version": "Hans"}],
)
def test_a_tokenizer_holds_what_its_library_writes(tmp_path: Path, change: dict[str, Any]) -> None:
    content = json.loads((CHECKPOINTS / "text-to-mr-brain/tokenizer/tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, **change}))
    (issue,) = publication_issues(tmp_path)
    assert issue.startswith("tokenizer.json ")


def test_every_setting_of_a_training_is_known() -> None:
    configs = (AttributeDataConfig, CaptionedDataConfig, LabelledDataConfig, VolumeDataConfig, TrainingConfig)
    assert known_settings() >= {field.name for config in configs for field in fields(config)}
