"""Generate a synthetic data set: split over processes, resumable, each sample a function of seed and number."""

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
import nibabel
import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from meddiffusers.evaluation.results import hardware
from meddiffusers.generation.covariates import CovariateSource
from meddiffusers.generation.label_maps import LabelMaps, label_image
from meddiffusers.generation.quality_filter import QualityFilter
from meddiffusers.generation.shards import Shards
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.utils.atomic import write_json, write_text
from meddiffusers.utils.reading import read_json
from meddiffusers.utils.seeds import sample_seed

MANIFEST, CARD = "manifest.json", "README.md"
PATIENCE, PAUSE = 3600.0, 1.0  # seconds: how long the first process waits for another shard, and between two checks


@dataclass(frozen=True)
class GenerationConfig:
    """What to generate. The samples do not depend on the number of processes.

    Args:
        repository: name of the model, for the manifest and the card.
        num_samples: number of samples in the data set.
        seed: together with a sample's number it determines the sample.
        shard_size: samples in one Parquet file.
        batch_size: samples in one call of the pipeline.
        settings: further arguments of the pipeline's call, such as `num_inference_steps`.
    """

    repository: str
    num_samples: int
    seed: int = 0
    shard_size: int = 100
    batch_size: int = 4
    settings: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self, source: CovariateSource | None, masks: LabelMaps | None) -> dict[str, Any]:
        """The content of `manifest.json`, by which a later run recognises the folder."""
        return {
            "repository": self.repository,
            "samples": self.num_samples,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "batch_size": self.batch_size,
            "settings": dict(self.settings),
            "covariates": None if source is None else source.describe(),
            **({"masks": masks.describe()} if masks else {}),
        }


def generate(
    pipeline: LatentDiffusionPipeline,
    config: GenerationConfig,
    folder: Path,
    source: CovariateSource | None = None,
    quality_filter: QualityFilter | None = None,
    masks: LabelMaps | None = None,
) -> Path:
    """Generate the samples that are missing in `folder`, then write the data set card.

    Call it in every process of a launch; the main process also waits for the shards of the others. Each sample has its
    own random generator, the covariates that `source` samples for its number and the label map of its number, which is
    stored beside it. Samples that fail the quality filter are kept and marked.

    Args:
        pipeline: model that generates the samples.
        config: what to generate.
        folder: a new folder, or one that an earlier run with the same configuration began.
        source: covariates for each sample; None for a model without covariates, or to leave them unspecified.
        quality_filter: check for failed samples and copies of known images.
        masks: label maps for a model that is conditioned on them.

    Returns:
        The path of the data set card.

    Raises:
        ValueError: covariates or label maps that the model does not support, a folder with the data of another
            configuration, or one with a damaged manifest or shard. Raised before any sample is generated.
        TimeoutError: no other process has finished a shard for an hour.
    """
    if source:
        extrapolate = bool(config.settings.get("extrapolate"))
        pipeline.unet.scale_covariates([source.sample(config.seed, i) for i in range(config.num_samples)], extrapolate)
    if masks:
        masks.check(pipeline)
    state = PartialState()
    shards = Shards(folder, config.num_samples, config.shard_size)
    manifest = config.manifest(source, masks)
    with state.main_process_first():
        _check_manifest(folder, manifest)
    features = _features(pipeline, source, quality_filter, masks)
    shards.check(features)
    bar = tqdm(total=config.num_samples, initial=shards.finished(), disable=not state.is_main_process, unit="sample")
    for shard in shards.missing(state.process_index, state.num_processes):
        rows = _generate_rows(pipeline, config, shards.samples(shard), source, quality_filter, masks)
        shards.write(shard, rows, features)
        bar.update(shards.finished() - bar.n)
    if not state.is_main_process:
        return folder / CARD
    _wait(shards, bar)
    bar.close()
    return _write_card(folder, shards, manifest, quality_filter, pipeline.unet.mask_labels if masks else {})


def _generate_rows(
    pipeline: LatentDiffusionPipeline,
    config: GenerationConfig,
    numbers: Sequence[int],
    source: CovariateSource | None,
    quality_filter: QualityFilter | None,
    masks: LabelMaps | None,
) -> list[dict[str, Any]]:
    """Rows of the samples with these numbers."""
    rows = []
    for first in range(0, len(numbers), config.batch_size):
        batch = numbers[first : first + config.batch_size]
        covariates = [source.sample(config.seed, number) if source else {} for number in batch]
        maps = [masks.get(number) for number in batch] if masks else []
        conditions: dict[str, Any] = {"covariates": covariates} if source else {}
        conditions |= {"mask": np.stack(maps).astype(np.int64)} if maps else {}
        generators = [torch.Generator().manual_seed(sample_seed(config.seed, number)) for number in batch]
        output = pipeline(len(batch), **conditions, generator=generators, output_type="nifti", **config.settings)
        for i, (number, image) in enumerate(zip(batch, output.images, strict=True)):
            row = {"image": _encode_nifti(image, number), "number": number, **covariates[i]}
            if maps:
                row["mask"] = _encode_nifti(label_image(maps[i], image.affine), number)
            rows.append(row | (quality_filter.check(_array(image)) if quality_filter else {}))
    return rows


def _encode_nifti(image: nibabel.Nifti1Image, number: int) -> dict[str, Any]:
    """A value of a `datasets.Nifti` column; gzip without a time stamp, so that equal images have equal bytes."""
    return {"bytes": gzip.compress(image.to_bytes(), mtime=0), "path": f"{number:07d}.nii.gz"}


def _array(image: nibabel.Nifti1Image) -> np.ndarray:
    """(C, X, Y, Z) from a NIfTI image, or (C, X, Y) from a single slice."""
    array = np.asarray(image.dataobj, np.float32)
    array = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
    return array[..., 0] if array.shape[-1] == 1 else array


def _features(
    pipeline: LatentDiffusionPipeline,
    source: CovariateSource | None,
    quality_filter: QualityFilter | None,
    masks: LabelMaps | None,
) -> datasets.Features:
    """Columns of all shards: image, label map, number, covariates, and the results of the quality filter."""
    ranges = pipeline.unet.covariates if source else {}
    kinds = {name: "string" if isinstance(ends[0], str) else "float64" for name, ends in ranges.items()}
    if quality_filter:
        kinds |= {"foreground": "float64", "nearest": "float64", "issues": "string"}
    values = {name: datasets.Value(kind) for name, kind in kinds.items()}
    scans = dict.fromkeys(("image", "mask") if masks else ("image",), datasets.Nifti())
    return datasets.Features(**scans, number=datasets.Value("int64"), **values)


def _check_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest into a new folder; ValueError where the folder has another one, or other files."""
    path = folder / MANIFEST
    folder.mkdir(parents=True, exist_ok=True)
    expected = json.loads(json.dumps(manifest))
    if not path.exists():
        if any(folder.iterdir()):
            raise ValueError(f"{folder} holds other files; expected a new folder, or one that an earlier run began.")
        write_json(path, expected)
    elif (found := read_json(path)) != expected:
        differing = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        raise ValueError(
            f"{folder} was begun with another {', '.join(differing)}. Use the values in its {MANIFEST}, or another "
            "folder."
        )


def _wait(shards: Shards, bar: tqdm) -> None:
    """Wait until the shards of all processes exist."""
    since = time.monotonic()
    while (finished := shards.finished()) < shards.num_samples:
        if finished > bar.n:
            since = time.monotonic()
            bar.update(finished - bar.n)
        elif time.monotonic() - since > PATIENCE:
            missing = len(list(shards.missing()))
            raise TimeoutError(
                f"{missing} shards are missing, and no process has written one for an hour. Run the command again."
            )
        time.sleep(PAUSE)
    bar.update(finished - bar.n)


def _write_card(
    folder: Path,
    shards: Shards,
    manifest: Mapping[str, Any],
    quality_filter: QualityFilter | None,
    labels: Mapping[int, str],
) -> Path:
    """Write the data set card with the results of the quality filter; returns its path."""
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
        f"{len(rows)} samples generated by the model `{manifest['repository']}` with seed {manifest['seed']}, on "
        f"{hardware()}. For research and teaching; not for diagnosis or treatment, and not a medical device.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'data = load_dataset("path/to/this/folder", split="train")',
        'data[0]["image"]  # a nibabel image',
        "```",
        "",
        f"Each sample is determined by its number and the seed; `{MANIFEST}` holds the settings, and how covariates "
        "were sampled.",
        "",
    ]
    if labels:
        names = ", ".join(f"{label} is {name}" for label, name in labels.items())
        lines += [f"Each image was generated from the label map in the column `mask`: {names}, 0 is background.", ""]
    if quality_filter is not None:
        lines += _quality_lines(rows, quality_filter)
    write_text(folder / CARD, "\n".join(lines))
    return folder / CARD


def _quality_lines(rows: Sequence[Mapping[str, Any]], quality_filter: QualityFilter) -> list[str]:
    """The card's section on failed samples and copies."""
    flagged = [row for row in rows if row["issues"]]
    distances = [row["nearest"] for row in rows if not math.isnan(row["nearest"])]
    return [
        "## Quality and memorization",
        "",
        f"- {len(flagged)} of {len(rows)} samples have an entry in the column `issues`; filter them out.",
        f"- copies: {sum('copy' in row['issues'] for row in rows)}. A copy is nearer to a known image than any two "
        f"known images are to each other ({quality_filter.limit:.4f} RMS).",
        f"- distance to the nearest known image: median {np.median(distances):.4f}, minimum {min(distances):.4f}."
        if distances
        else "- no sample is finite.",
        "",
        "A distance at coarse resolution finds copies, not every trace of a person. If the model was trained on "
        "patients, check who may have its samples.",
        "",
    ]
