"""Stopping on request: a signal asks, the training loop saves and leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)  # how schedulers ask; a run that they stop has not failed


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that SIGTERM, SIGUSR1 and SIGINT append to.

    A second signal does what it always did, as do all of them at the end.
    """
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, old[number])

    old: dict[int, Any] = {number: signal.signal(number, receive) for number in (*PREEMPTION, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
