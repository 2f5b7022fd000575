"""How like real images drawn ones are, and whether any of them is a training image.

| figure | of |
|---|---|
| kernel distance | features of drawn and of held-out images, those of all modalities side by side |
| kernel distance, held-out halves | one half of the held-out images against the other: no difference |
| Fréchet distance | the same features, drawn against held-out; of few images too large (`frechet_distance`) |
| nearest training image | RMS difference to it over all pixels and modalities, of drawn and of held-out images |
| the same, "held-out images through the autoencoder" | what a model of its latents can reach: smooth, no copies |

A model that remembers draws images that lie nearer to training images than unseen real ones do. Copies are looked
for among the training images and their mirror images, at `COARSE`² pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.metrics.frechet import frechet_distance
from meddiffusers.evaluation.metrics.image_features import NAME, EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import KID, kid_score
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.utils.seeds import sample_generators

BATCH = 16  # images that are drawn at once
COARSE = 32  # pixels of a side at which images are compared with training images
SUSPICIOUS = 1.0  # percentile of the held-out images' distances below which a drawn one is shown as near
SHOWN = 8
DECODED = "held-out images through the autoencoder"


def generate_images(pipeline: Any, count: int, seed: int = 0, **settings: Any) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1], each from a generator of its own: the first are the same whatever N."""
    parts = []
    for first in range(0, count, BATCH):
        generators = sample_generators(seed, min(BATCH, count - first), first)
        output = pipeline(len(generators), generator=generators, output_type="pt", **settings)
        parts.append(output.images.cpu().numpy())
    return np.concatenate(parts)


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
    """Metrics and images of drawn images beside held-out and known (training) ones, all (N, C, H, W) in [0, 1].

    Slices of one subject should follow each other in `held_out`, so that its halves have different subjects.
    decoded: what an autoencoder makes of `held_out`; no model of its latents can be expected to do better.
    """
    features = EfficientNetLite0()
    of_drawn, of_real = (_features(features, figures) for figures in (images, held_out))
    half = len(of_real) // 2
    compared = {"": (of_real, of_drawn), ", held-out halves": (of_real[:half], of_real[half:])}
    near = {"drawn": nearest(images, known), "held-out": nearest(held_out, known)}
    if decoded is not None:
        compared[f", {DECODED}"] = of_real, _features(features, decoded)
        near[DECODED] = nearest(decoded, known)
    own, limit = near["drawn"], float(np.percentile(near["held-out"][0], SUSPICIOUS))
    metrics = [
        _kernel(f"kernel distance{note}", kid_score(*pair, seed=seed), dataset) for note, pair in compared.items()
    ]
    distance = frechet_distance(of_real, of_drawn)
    metrics.append(Metric.single("Fréchet distance", distance, dataset, len(images), f"{NAME}; {len(held_out)} real"))
    metrics += [_spread(f"nearest training image, {name}", found[0], dataset) for name, found in near.items()]
    metrics.append(_nearer("drawn images", own[0], limit, dataset))
    if decoded is not None:
        metrics.append(_nearer(DECODED, near[DECODED][0], limit, dataset))
    figures = _figures(images, held_out, known, own, modalities)
    return Report(metrics, run_facts(seed), {"suspicious below": limit, "features": NAME}, figures)


def nearest(images: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) of each image to the nearest known one or its mirror image, and the number of that one (N,)."""
    mine, theirs = _coarse(images), _coarse(known)
    both = torch.cat([theirs, theirs.flip(-1)]).flatten(1)
    distance, number = torch.cdist(mine.flatten(1), both).min(dim=1)
    return (distance / both.shape[1] ** 0.5).numpy(), (number % len(known)).numpy()


def _coarse(images: np.ndarray) -> torch.Tensor:
    return F.interpolate(torch.from_numpy(images), (COARSE, COARSE), mode="bilinear", antialias=True)


def _figures(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    modalities: Sequence[str],
) -> dict[str, Any]:
    """Panels by their titles; `own` says how near to which known image each drawn one is."""
    closest = np.argsort(own[0], kind="stable")[:SHOWN]
    pairs = {"drawn": images[closest, 0], "nearest known": known[own[1][closest], 0]}
    titles = {"drawn": [f"RMS {own[0][number]:.3f}" for number in closest]}
    shown = {"drawn": images, "held-out": held_out}
    rows = {f"{kind} {name}": of[:SHOWN, c] for c, name in enumerate(modalities) for kind, of in shown.items()}
    return {
        "Images drawn from noise, and held-out ones": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))),
        f"The drawn images that lie nearest to a training image, and that image ({modalities[0]})": panel(
            pairs, titles, ranges=dict.fromkeys(pairs, (0.0, 1.0))
        ),
    }


def _features(network: EfficientNetLite0, images: np.ndarray) -> np.ndarray:
    """(N, C·1280), the modalities of a image side by side."""
    channels = [network(images[:, channel]).cpu().numpy() for channel in range(images.shape[1])]
    return np.concatenate(channels, axis=1)


def _kernel(name: str, found: KID, dataset: str) -> Metric:
    note = f"{NAME}; {found.generated} against {found.real}"
    return Metric(name, found.value, dataset, found.generated, found.low, found.high, "95 %, random halves", note)


def _nearer(name: str, distances: np.ndarray, limit: float, dataset: str) -> Metric:
    title = f"{name} nearer to a training image than 99 % of held-out ones"
    note = "0.01 is what held-out images have"
    return Metric.single(title, float((distances < limit).mean()), dataset, len(distances), note)


def _spread(name: str, distances: np.ndarray, dataset: str) -> Metric:
    low, high = np.percentile(distances, (2.5, 97.5))
    note = f"RMS at {COARSE}² pixels, median"
    return Metric(name, float(np.median(distances)), dataset, len(distances), low, high, "95 % of the images", note)
