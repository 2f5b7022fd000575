"""MedNIST: 58,954 small images of six classes, an introductory set for classification and generation.

Compiled by B. J. Erickson (Mayo Clinic) from TCIA, the RSNA Bone Age Challenge and the NIH Chest X-ray data set, under
CC BY-SA 4.0; MONAI hosts the archive. The patients of the images are unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import datasets
from datasets.utils import tqdm
from PIL import Image

from meddiffusers.datasets.public.building import (
    Options,
    build_splits,
    drop_invalid_rows,
    split_rows,
)
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row
from meddiffusers.datasets.public.splitting import check_fraction, select_test_subjects

CLASSES = ("AbdomenCT", "BreastMRI", "ChestCT", "CXR", "Hand", "HeadCT")
SIZE = (64, 64)
END_OF_JPEG = b"\xff\xd9"


def mednist(folder: str | Path, **options: Unpack[Options]) -> datasets.DatasetDict:
    """Load the images, split within each class; slices of one patient may be in both splits, as patients are unknown.

    Args:
        folder: the unpacked archive.
        **options: see `Options`; each image counts as a subject.

    Returns:
        Splits with the columns image (64×64, 8-bit grey) and label (one of `CLASSES`).

    Raises:
        DatasetError: see `build`.
        ValueError: the folder has another layout; see also `build`.
    """
    index = Index(Path(folder))
    top = next(
        (path for path in (index.folder, index.folder / "MedNIST") if (path / CLASSES[0]).is_dir()), index.folder
    )
    for label in CLASSES:
        images = sorted((top / label).glob("*.jp*g"))
        index.rows.extend(
            Row(name := f"{label}/{path.name}", name, {"image": path}, {"label": label}) for path in images
        )
        if not images:
            index.issues.append(Issue(label, f"no images; expected {label}/000000.jpeg and others"))
    index.require_rows("MedNIST", "AbdomenCT/000000.jpeg")
    test_fraction, seed = options.get("test_fraction", 0.2), options.get("seed", 0)
    check_fraction(test_fraction)
    whole = options.get("verify", False)
    for row in tqdm(index.rows, desc="Checking images", unit=" images"):
        if text := _issue(top / row.name, whole):
            index.issues.append(Issue(row.subject, text))
    rows = drop_invalid_rows(index, index.issues, options.get("skip_invalid", False))
    test = set[str]()
    for label in {row.record["label"] for row in rows}:
        test |= select_test_subjects((row.name for row in rows if row.record["label"] == label), test_fraction, seed)
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    return build_splits(split_rows(rows, test), features, options.get("num_proc"))


def _issue(path: Path, whole: bool) -> str:
    """Issue of an image, by its header and last bytes, or with `whole` by all its pixels; "" if there is none."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            if whole:
                image.load()
            file.seek(-len(END_OF_JPEG), 2)
            if file.read() != END_OF_JPEG:
                return "cut short; expected a whole JPEG: download it again"
            return "" if image.size == SIZE else f"{image.size} pixels; expected {SIZE}"
    except OSError as error:
        return f"cannot be opened ({type(error).__name__}); expected a JPEG: download it again"
