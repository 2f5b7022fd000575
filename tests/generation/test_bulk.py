"""Synthetic data sets: each sample by itself, killed and begun again bit for bit, several processes, other orders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.small_latent_diffusion import RANGES, of_volumes
from helpers.small_volumes import volume_rows

from meddiffusers.datasets.rows import images_of
from meddiffusers.generation.bulk import CARD, PLAN, Order, generate
from meddiffusers.generation.covariates import JointDistribution, TableRows
from meddiffusers.generation.quality_filter import QualityFilter
from meddiffusers.generation.shards import Shards

ROWS = volume_rows(20)
GATE = QualityFilter.of(images_of(ROWS), axis=1)
SOURCE = JointDistribution.fit([dict(row) for row in ROWS.select_columns([*RANGES])], [*RANGES])
ORDER = Order("me/model", 7, seed=3, shard_size=3, batch_size=2, settings={"num_inference_steps": 2})


def quiet() -> Any:
    pipeline = of_volumes(spacing=2.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_a_data_set_whose_samples_are_those_of_their_numbers(tmp_path: Path) -> None:
    generate(quiet(), ORDER, tmp_path, SOURCE, GATE)
    data = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert data["number"][:] == list(range(7)) and len(list((tmp_path / "data").iterdir())) == 3
    for number in (0, 4):
        told = SOURCE.draw(3, number)
        assert {name: data[number][name] for name in RANGES} == told
        noise = torch.Generator().manual_seed(int(np.random.default_rng([3, number, 1]).integers(2**63)))
        alone = quiet()(covariates=told, generator=noise, num_inference_steps=2, output_type="pt").images[0, 0]
        image = data[number]["image"]
        np.testing.assert_allclose(image.get_fdata(), alone.numpy(), atol=2e-4)
        assert image.header.get_zooms() == (2, 2, 2)
        assert data[number]["nearest"] > 0
    card = (tmp_path / CARD).read_text()
    assert (
        "7 samples that the model `me/model` has drawn, seed 3" in card
        and "not a medical device" in card
        and "of 7 samples are mark" in card
    )
    assert json.loads((tmp_path / PLAN).read_text())["covariates"]["kind"] == "Gaussian copula"


def test_killed_at_any_time_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    generate(quiet(), ORDER, tmp_path / "whole", SOURCE, GATE)
    pipeline, calls = quiet(), []
    forward = pipeline.unet.forward

    def dies(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) % 5 == 0:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    pipeline.unet.forward = dies
    deaths = 0
    while True:
        try:
            generate(pipeline, ORDER, tmp_path / "killed", SOURCE, GATE)
            break
        except KeyboardInterrupt:
            deaths += 1
    assert deaths >= 2
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_what_several_processes_make_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(quiet(), ORDER, tmp_path / "one", None, None)

    class State:
        num_processes = 2

        def __init__(self, rank: int = 0) -> None:
            self.process_index, self.is_main_process = rank, rank == 0

        def main_process_first(self) -> Any:
            return torch.no_grad()  # any context

    for rank in (1, 0):
        monkeypatch.setattr("meddiffusers.generation.bulk.PartialState", lambda rank=rank: State(rank))
        generate(quiet(), ORDER, tmp_path / "two", None, None)
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_the_first_process_waits_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(tmp_path, 7, 3)
    assert [list(shards.missing(rank, 2)) for rank in range(2)] == [[0, 2], [1]]
    monkeypatch.setattr("meddiffusers.generation.bulk.PATIENCE", 0.05)
    monkeypatch.setattr("meddiffusers.generation.bulk.PAUSE", 0.01)
    monkeypatch.setattr(Shards, "missing", lambda self, rank=0, world=1: iter(()))
    with pytest.raises(TimeoutError, match="shards are missing, and none has come"):
        generate(quiet(), ORDER, tmp_path, None, None)


def test_another_order_is_refused(tmp_path: Path) -> None:
    generate(quiet(), Order("me/model", 2, settings={"num_inference_steps": 1}), tmp_path / "a", None, None)
    with pytest.raises(ValueError, match="was begun with another samples"):
        generate(quiet(), Order("me/model", 3, settings={"num_inference_steps": 1}), tmp_path / "a", None, None)
    with pytest.raises(ValueError, match="was begun with another covariates"):
        order = Order("me/model", 2, settings={"num_inference_steps": 1})
        generate(quiet(), order, tmp_path / "a", TableRows([{"age": 30}]), None)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        generate(quiet(), ORDER, tmp_path / "b", None, None)
    with pytest.raises(ValueError, match="expected at least 1 of both"):
        generate(quiet(), Order("me/model", 0), tmp_path / "c", None, None)
