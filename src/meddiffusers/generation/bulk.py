"""A data set of drawn volumes or images: split over processes, resumable, each a function of (seed, number)."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from meddiffusers.evaluation.results import hardware
from meddiffusers.generation.covariates import CovariateSource
from meddiffusers.generation.label_maps import LabelMaps, label_image
from meddiffusers.generation.quality_filter import QualityFilter
from meddiffusers.generation.shards import Shards
from meddiffusers.utils.atomic import write_json, write_text
from meddiffusers.utils.seeds import sample_seed

PLAN, CARD = "generation.json", "README.md"
PATIENCE, PAUSE = 3600.0, 1.0  # seconds that the first process waits for a shard of another's, and looks again


@dataclass(frozen=True)
class Order:
    """What is to be made.

    repository: whose model; n: how many; settings: of the pipeline's call.
    shard_size, batch_size: samples of a file, and of a call; the samples do not change with the number of processes.
    """

    repository: str
    n: int
    seed: int = 0
    shard_size: int = 100
    batch_size: int = 4
    settings: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, source: CovariateSource | None, masks: LabelMaps | None) -> dict[str, Any]:
        """What the folder says of itself."""
        told = None if source is None else source.describe()
        return {
            "repository": self.repository,
            "samples": self.n,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "batch_size": self.batch_size,
            "settings": dict(self.settings),
            "covariates": told,
            **({"masks": masks.describe()} if masks else {}),
        }


def generate(
    pipeline: Any,
    order: Order,
    folder: Path,
    source: CovariateSource | None = None,
    gate: QualityFilter | None = None,
    masks: LabelMaps | None = None,
) -> Path:
    """Makes what is missing of the data set in `folder`, and writes its card at the end; returns the card's path.

    Every process of a launch calls it; the first also waits for the others' shards. A sample has the covariates that
    `source` draws for its number, the label map of that number, which is written beside it, and noise of a generator of
    its own; samples that the gate flags stay, and are marked.

    Raises:
        ValueError: before any work, covariates or label maps that the model has not learnt, or a folder with another
            order's data.
        TimeoutError: no other process has finished a shard for an hour.
    """
    if source:
        extrapolate = bool(order.settings.get("extrapolate"))
        pipeline.unet.scaled([source.draw(order.seed, number) for number in range(order.n)], extrapolate)
    if masks:
        masks.check(pipeline)
    state = PartialState()
    shards = Shards(folder, order.n, order.shard_size)
    with state.main_process_first():
        _check_plan(folder, order.plan(source, masks))
    features = _features(pipeline, source, gate, masks)
    bar = tqdm(total=order.n, initial=shards.finished(), disable=not state.is_main_process, unit="sample")
    for shard in shards.missing(state.process_index, state.num_processes):
        rows = _made(pipeline, order, shards.samples(shard), source, gate, masks)
        shards.write(shard, rows, features)
        bar.update(shards.finished() - bar.n)
    if not state.is_main_process:
        return folder / CARD
    _wait(shards, bar)
    bar.close()
    return _card(folder, shards, order.plan(source, masks), gate, pipeline.unet.mask_labels if masks else {})


def _made(
    pipeline: Any,
    order: Order,
    numbers: Sequence[int],
    source: CovariateSource | None,
    gate: QualityFilter | None,
    masks: LabelMaps | None,
) -> list[dict[str, Any]]:
    """Rows of the samples of these numbers."""
    rows = []
    for first in range(0, len(numbers), order.batch_size):
        part = numbers[first : first + order.batch_size]
        told = [source.draw(order.seed, number) if source else {} for number in part]
        maps = [masks.draw(number) for number in part] if masks else []
        given: dict[str, Any] = {"covariates": told} if source else {}
        given |= {"mask": np.stack(maps).astype(np.int64)} if maps else {}
        generators = [torch.Generator().manual_seed(sample_seed(order.seed, number)) for number in part]
        images = pipeline(len(part), **given, generator=generators, output_type="nifti", **order.settings).images
        for place, (number, image) in enumerate(zip(part, images, strict=True)):
            row = {"image": _packed(image, number), "number": number, **told[place]}
            if maps:
                row["mask"] = _packed(label_image(maps[place], image.affine), number)
            rows.append(row | (gate.check(_array(image)) if gate else {}))
    return rows


def _packed(image: Any, number: int) -> dict[str, Any]:
    """As `datasets.Nifti` stores it, without the time, which would change the bytes."""
    return {"bytes": gzip.compress(image.to_bytes(), mtime=0), "path": f"{number:07d}.nii.gz"}


def _array(image: Any) -> np.ndarray:
    """(C, …) of a NIfTI image of the pipeline, without the axis of a single slice."""
    array = np.asarray(image.dataobj, np.float32)
    array = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
    return array[..., 0] if array.shape[-1] == 1 else array


def _features(
    pipeline: Any, source: CovariateSource | None, gate: QualityFilter | None, masks: LabelMaps | None
) -> datasets.Features:
    """Columns: the image, its number, label map, covariates, what the gate found. The same for all shards."""
    ranges = pipeline.unet.covariates if source else {}
    kinds = {name: "string" if isinstance(ends[0], str) else "float64" for name, ends in ranges.items()}
    if gate:
        kinds |= {"foreground": "float64", "nearest": "float64", "issues": "string"}
    told = {name: datasets.Value(kind) for name, kind in kinds.items()}
    scans = dict.fromkeys(("image", "mask") if masks else ("image",), datasets.Nifti())
    return datasets.Features(**scans, number=datasets.Value("int64"), **told)


def _check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    path = folder / PLAN
    folder.mkdir(parents=True, exist_ok=True)
    ordered = json.loads(json.dumps(plan))
    if not path.is_file():
        if any(folder.iterdir()):
            raise ValueError(f"{folder} holds something else; expected a new folder, or one that was begun here.")
        write_json(path, ordered)
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != ordered:
        differing = [name for name in {**found, **ordered} if found.get(name) != ordered.get(name)]
        raise ValueError(
            f"{folder} was begun with another {', '.join(differing)}. Give what {PLAN} there says, or another folder."
        )


def _wait(shards: Shards, bar: Any) -> None:
    """Until the other processes' shards are there."""
    since = time.monotonic()
    while (finished := shards.finished()) < shards.count:
        if finished > bar.n:
            since = time.monotonic()
            bar.update(finished - bar.n)
        elif time.monotonic() - since > PATIENCE:
            missing = len(list(shards.missing()))
            raise TimeoutError(f"{missing} shards are missing, and none has come for an hour. Start it again.")
        time.sleep(PAUSE)
    bar.update(finished - bar.n)


def _card(
    folder: Path, shards: Shards, plan: Mapping[str, Any], gate: QualityFilter | None, labels: Mapping[int, str]
) -> Path:
    """The data set's README, with what was found of the samples."""
    rows = list(shards.rows())
    lines = [
        "---",
        "license: apache-2.0",
        "tags: [synthetic, medical-imaging, meddiffusers]",
        "configs:",
        "- config_name: default",
        "  data_files: data/*.parquet",
        "---",
        "",
        "# Synthetic scans",
        "",
        f"{len(rows)} samples that the model `{plan['repository']}` has drawn, seed {plan['seed']}, on {hardware()}. "
        "For research and teaching; not for diagnosis or treatment, and not a medical device.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'data = load_dataset("path/to/this/folder", split="train")',
        'data[0]["image"]  # a nibabel image',
        "```",
        "",
        f"Every sample follows from its number and the seed; `{PLAN}` is the order, and how covariates were drawn.",
        "",
    ]
    if labels:
        named = ", ".join(f"{label} is {name}" for label, name in labels.items())
        lines += [f"Each was drawn of the label map beside it in the column `mask`: {named}, 0 all else.", ""]
    if gate is not None:
        flagged = [row for row in rows if row["issues"]]
        distances = [row["nearest"] for row in rows if not math.isnan(row["nearest"])]
        lines += [
            "## Quality and memory",
            "",
            f"- {len(flagged)} of {len(rows)} samples are marked in the column `issues`; filter them.",
            f"- copies: {sum('copy' in row['issues'] for row in rows)}, nearer to a known volume than any two known "
            f"volumes are to each other ({gate.limit:.4f} RMS).",
            f"- distance to the nearest known volume: median {np.median(distances):.4f}, least {min(distances):.4f}."
            if distances
            else "- no sample is finite.",
            "",
            "A distance at coarse resolution finds copies, not every trace of a person. If the model was trained on "
            "patients, ask who may have its samples.",
            "",
        ]
    write_text(folder / CARD, "\n".join(lines))
    return folder / CARD
