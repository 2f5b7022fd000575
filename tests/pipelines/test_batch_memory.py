"""`batch_size` bounds the memory: a further image costs no more than its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from contracts.pipeline_contract import generator, seeded
from diffusers import DDPMScheduler
from helpers.peak_memory import peak_memory
from helpers.small_segmentation import LABELS, NETWORK, SCHEDULE, joint_unet, pipeline_of, random_images, small_unet

from meddiffusers import AnomalyDetectionPipeline, PatchUNet2DModel, ReversibleDDIMScheduler

SIDE, MEMBERS = 16, 6
FEW, MANY = 4, 10  # images, in batches of 2
PIXEL_BYTES = SIDE**2 * 4  # of one float32 map


def anomaly_peak(count: int, batch_size: int = 2, **settings: Any) -> int:
    with seeded():
        unet = PatchUNet2DModel(4, sample_size=SIDE, network=NETWORK, id2label=["healthy", "diseased"]).eval()
    pipeline = AnomalyDetectionPipeline(unet, ReversibleDDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    images = random_images(count, 4, SIDE, SIDE)
    call = {"num_inference_steps": 1, "num_noise_samples": 1, "generator": generator(0), **settings}
    return peak_memory(lambda: pipeline(images, batch_size=batch_size, **call))


def segmentation_peak(count: int, batch_size: int = 2 * MEMBERS, scheduler: Any = None, plain: bool = False) -> int:
    unet = joint_unet(8, 4) if plain else small_unet(mask_channels=4, sample_size=SIDE)
    pipeline = pipeline_of(unet, scheduler, labels=LABELS)
    images = random_images(count, 4, SIDE, SIDE)
    call = {"num_inference_steps": 1, "ensemble_size": MEMBERS, "generator": generator(0)}
    return peak_memory(lambda: pipeline(images, batch_size=batch_size, **call))


def test_the_peak_is_exact() -> None:
    def work() -> torch.Tensor:
        x = torch.ones(1000)
        y = (x + 1).view(10, 100)[2:]  # a view of the same storage
        del x
        return y + torch.zeros(1)

    # x and x + 1; then x + 1, a zero and the result of 800
    assert peak_memory(work) == 4 * 2000
    assert peak_memory(lambda: [torch.ones(500) for _ in range(4)]) == 4 * 2000


ANOMALY = [
    {"map_from": "residual"},
    {"map_from": "residual", "encoding": "noise"},
    {"map_from": "label_contrast"},
    {"map_from": "label_contrast", "encoding": "noise"},
]


@pytest.mark.parametrize("settings", ANOMALY, ids=lambda settings: "-".join(settings.values()))
@pytest.mark.slow
def test_anomaly_detection(settings: dict[str, Any]) -> None:
    growth = (anomaly_peak(MANY, **settings) - anomaly_peak(FEW, **settings)) / (MANY - FEW)
    # the input, the counterfactual and the map, the last two also as the batches that they are joined from
    assert growth <= (4 + 2 * (4 + 1) + 1) * PIXEL_BYTES


@pytest.mark.parametrize("scheduler", [None, DDPMScheduler(**SCHEDULE)], ids=["deterministic", "stochastic"])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.slow
def test_segmentation(scheduler: Any, plain: bool) -> None:
    few, many = (segmentation_peak(count, scheduler=scheduler, plain=plain) for count in (FEW, MANY))
    # the input; probability and two maps of uncertainty in float32, mask and samples in uint8; also as batches
    results = (4 + 2 + (1 + MEMBERS) / 4) * PIXEL_BYTES
    assert (many - few) / (MANY - FEW) <= 4 * PIXEL_BYTES + 2 * results


@pytest.mark.parametrize("peak", [anomaly_peak, lambda count, size: segmentation_peak(count, size * MEMBERS)])
@pytest.mark.slow
def test_smaller_batches_need_less(peak: Callable[[int, int], int]) -> None:
    small, large = peak(8, 1), peak(8, 8)
    assert small < 0.4 * large
