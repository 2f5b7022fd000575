"""Fidelity of generated images, and memorization of the training images.

| metric | computed from |
|---|---|
| `kid` | features of generated and of held-out images; those of all modalities are concatenated |
| `kid_held_out` | one half of the held-out images against the other half, for comparison |
| `fid` | the same features as `kid`; biased upwards for few images, see `frechet_distance` |
| `nn_distance_generated`, `nn_distance_held_out` | RMS difference to the nearest training image, all modalities |
| `nn_copies` | fraction of generated images closer to a training image than 99 % of the held-out images are |
| `*_autoencoder` | held-out images through the autoencoder: a bound for models of its latents |

A model that memorizes generates images closer to training images than unseen real images are. Distances are computed to
the training images and their mirror images, at `COARSE`² pixels. All features are those of EfficientNet-Lite0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.metrics.frechet import frechet_distance
from meddiffusers.evaluation.metrics.image_features import EXTRACTOR, NAME, EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import KID, kid_score
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.pipelines.image_diffusion_pipeline import ImageDiffusionPipeline
from meddiffusers.utils.seeds import sample_generators

BATCH = 16  # images per call of the pipeline
COARSE = 32  # pixels of a side at which images are compared with training images
LEAST_OF_KID = 4  # images of each set
COPY_PERCENTILE = 1.0  # of the held-out images' distances, below which an image counts as a copy
SHOWN = 8
AUTOENCODER = "held-out images through the autoencoder"
_KID_TITLES = {"": "", "held-out": "held-out halves", "autoencoder": AUTOENCODER}


def generate_images(pipeline: ImageDiffusionPipeline, count: int, seed: int = 0, **settings: Any) -> np.ndarray:
    """Generate images in batches.

    Args:
        pipeline: The pipeline to run.
        count: Number of images, B.
        seed: Seed of the noise; that of image i depends on (seed, i) only.
        **settings: Further arguments of the pipeline.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    batches = []
    for first in range(0, count, BATCH):
        generators = sample_generators(seed, min(BATCH, count - first), first)
        output = pipeline(len(generators), generator=generators, output_type="pt", **settings)
        batches.append(output.images.cpu().numpy())
    return np.concatenate(batches)


def evaluate_generation(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    modalities: Sequence[str],
    *,
    dataset: str,
    decoded: np.ndarray | None = None,
    seed: int = 0,
) -> Report:
    """Compare generated images with held-out and training images, all (B, C, H, W) in [0, 1].

    Args:
        images: Generated images.
        held_out: Held-out images. Slices of one subject should be adjacent, so that the halves have different subjects.
        known: Training images.
        modalities: Names of the C channels.
        dataset: Name of the data, for the report.
        decoded: Reconstructions of `held_out` by the autoencoder, a bound for models of its latents.
        seed: Seed of the intervals.

    Returns:
        Metrics and figures. KID needs four images in each set, halves of the held-out images so eight of these; what
        they are too few for is named in the details under "left out".
    """
    network = EfficientNetLite0()
    real, generated = _features(network, held_out), _features(network, images)
    half = len(real) // 2
    kids = {"": (real, generated), "held-out": (real[:half], real[half:])}
    neighbours = {"generated": nearest_images(images, known), "held-out": nearest_images(held_out, known)}
    if decoded is not None:
        kids["autoencoder"] = real, _features(network, decoded)
        neighbours["autoencoder"] = nearest_images(decoded, known)
    limit = float(np.percentile(neighbours["held-out"][0], COPY_PERCENTILE))
    few = [metric_key("kid", source) for source, pair in kids.items() if min(map(len, pair)) < LEAST_OF_KID]
    metrics = [
        kid_metric(metric_key("kid", source), _KID_TITLES[source], kid_score(*pair, seed=seed), dataset)
        for source, pair in kids.items()
        if metric_key("kid", source) not in few
    ]
    note = f"{len(images)} generated, {len(held_out)} real"
    if min(len(real), len(generated)) > 1:
        name, frechet = f"Fréchet distance ({EXTRACTOR})", frechet_distance(real, generated)
        metrics.append(Metric.single("frechet_distance", name, frechet, dataset, len(images), note=note))
    else:
        few.append("frechet_distance")
    metrics += [_nn_distance(source, distances, dataset) for source, (distances, _) in neighbours.items()]
    metrics.append(_copies("nn_copies", "generated images", neighbours["generated"][0], limit, dataset))
    if decoded is not None:
        metrics.append(_copies("nn_copies_autoencoder", AUTOENCODER, neighbours["autoencoder"][0], limit, dataset))
    figures = _figures(images, held_out, known, neighbours["generated"], modalities)
    details: dict[str, object] = {"copies below": limit, "features": NAME}
    if few:
        details["left out"] = f"{', '.join(few)}: too few images ({note})"
    return Report(metrics, run_facts(seed), details, figures)


def nearest_images(images: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the known image, or mirror image, nearest to each image.

    Returns:
        RMS distances (B,), and the indices (B,) of the nearest images in `known`.
    """
    queries, references = _coarse(images), _coarse(known)
    references = torch.cat([references, references.flip(-1)]).flatten(1)
    distance, index = torch.cdist(queries.flatten(1), references).min(dim=1)
    return (distance / references.shape[1] ** 0.5).numpy(), (index % len(known)).numpy()


def kid_metric(key: str, title: str, kid: KID, dataset: str) -> Metric:
    """The KID as a metric, with its interval over random halves."""
    name = f"KID ({EXTRACTOR}), {title}" if title else f"KID ({EXTRACTOR})"
    note = f"{kid.generated} against {kid.real} images"
    return Metric(key, name, "kid", kid.value, dataset, kid.generated, kid.low, kid.high, "95 %, random halves", note)


def _coarse(images: np.ndarray) -> torch.Tensor:
    return F.interpolate(torch.from_numpy(images), (COARSE, COARSE), mode="bilinear", antialias=True)


def _figures(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    nearest: tuple[np.ndarray, np.ndarray],
    modalities: Sequence[str],
) -> dict[str, PIL.Image.Image]:
    """Panels by caption; `nearest` are the generated images' distances to known images, and their indices."""
    distances, index = nearest
    closest = np.argsort(distances, kind="stable")[:SHOWN]
    pairs = {"generated": images[closest, 0], "nearest training": known[index[closest], 0]}
    titles = {"generated": [f"RMS {distances[i]:.3f}" for i in closest]}
    rows = {
        f"{kind} {name}": of[:SHOWN, channel]
        for channel, name in enumerate(modalities)
        for kind, of in (("generated", images), ("held-out", held_out))
    }
    return {
        "Generated and held-out images": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))),
        f"The generated images closest to a training image, with that training image ({modalities[0]})": panel(
            pairs, titles, ranges=dict.fromkeys(pairs, (0.0, 1.0))
        ),
    }


def _features(network: EfficientNetLite0, images: np.ndarray) -> np.ndarray:
    """(B, C·1280), the features of all modalities of an image concatenated."""
    channels = [network(images[:, channel]).cpu().numpy() for channel in range(images.shape[1])]
    return np.concatenate(channels, axis=1)


def _copies(key: str, source: str, distances: np.ndarray, limit: float, dataset: str) -> Metric:
    name = f"Fraction of {source} closer to a training image than 99 % of the held-out images"
    copies = float((distances < limit).mean())
    return Metric.single(key, name, copies, dataset, len(distances), type="nn_copies", note="held-out images have 0.01")


def _nn_distance(source: str, distances: np.ndarray, dataset: str) -> Metric:
    key, title = metric_key("nn_distance", source), AUTOENCODER if source == "autoencoder" else f"{source} images"
    name, note = f"Distance to the nearest training image, {title}", f"median RMS difference at {COARSE}² pixels"
    low, high = np.percentile(distances, (2.5, 97.5))
    median, spread = float(np.median(distances)), "95 % of the images"
    return Metric(key, name, "nn_distance", median, dataset, len(distances), float(low), float(high), spread, note)
