"""Why a run stops, and how a signal stops it without losing progress."""

from __future__ import annotations

import signal
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any


class Stop(IntEnum):
    """What stopped the run; if several reasons apply, the largest value holds for all processes."""

    NOT_YET = 0
    TIME = 1
    STEPS = 2
    SIGNAL = 3


class StopSignals:
    """Context in which Ctrl-C and SIGTERM are only recorded, so that the current step can be completed and saved.

    A second signal takes effect immediately.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
