"""Other processes for tests of the engine, at the price of one import."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_task import Start, run_toys


@pytest.fixture(scope="session")
def _server() -> Iterator[ForkServerContext]:
    """A process that has imported the toy task and is forked for each run. It has never run a step itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.toy_task"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        yield context


@pytest.fixture
def start(_server: ForkServerContext) -> Iterator[Start]:
    """``start(runs, world_size)`` starts processes that train toys in turn, together as those of a launcher."""
    started: list[BaseProcess] = []

    def start_runs(runs: list[dict[str, Any]], world_size: int = 1) -> list[BaseProcess]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for rank in range(world_size):
            alone = world_size == 1
            environment = {} if alone else {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            started.append(_server.Process(target=run_toys, args=(runs, environment)))
            started[-1].start()
        return started[-world_size:]

    yield start_runs
    for process in started:
        process.kill()
        process.join()
