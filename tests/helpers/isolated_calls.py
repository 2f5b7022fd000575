"""Call a function in a process of its own, with limits of time and memory, and survive its crash."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Failure:
    """How a call failed: "crash", "hang", or the name of the exception's class, with its message."""

    kind: str
    message: str = ""


class IsolatedCall:
    """A function in a process that is kept between calls, and replaced after a crash or a hang.

    Args:
        function: of a module that can be imported; its arguments and its result are pickled.
        seconds: limit of a call.
        memory: bytes that a call may use beyond those of the idle process.
    """

    def __init__(self, function: Callable[..., Any], seconds: float = 10, memory: int = 1 << 30) -> None:
        self.function, self.seconds, self.memory = function, seconds, memory
        self.process: Any = None

    def __enter__(self) -> IsolatedCall:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, *arguments: Any) -> Any:
        """Result of the function, or a `Failure`."""
        if self.process is None:
            self._start()
        self.connection.send(arguments)
        if not self.connection.poll(self.seconds):
            self._stop()
            return Failure("hang")
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self._stop()
            return Failure("crash", f"exit code {code}")

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.function, self.memory), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.poll(120) or self.connection.recv() != "ready":
            raise RuntimeError("The process that is to be limited does not start.")

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def _serve(connection: Connection, function: Callable[..., Any], memory: int) -> None:
    connection.send("ready")
    limited = False
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            result = function(*arguments)
        except Exception as error:
            result = Failure(type(error).__name__, str(error))
        connection.send(result)
        if not limited:  # after the first call, which imports what the function needs
            idle = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
            resource.setrlimit(resource.RLIMIT_AS, (idle + memory, idle + memory))
            limited = True
