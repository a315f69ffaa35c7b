"""Stopping on request: a signal asks the training loop to save and stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

from mt_dnn.distributed.ranks import max_over_ranks

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)  # the signals of schedulers; a run that they stop has not failed


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Gives a list to which SIGTERM, SIGUSR1 and SIGINT append their numbers instead of ending the process.

    Only the main thread catches signals, and only the first signal of a kind. The second one, and any signal after
    the block, acts as it did before.
    """
    received: list[int] = []
    if current_thread() is not main_thread():  # Python lets only the main thread catch signals
        yield received
        return

    def receive(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, old[number])

    old: dict[int, Any] = {number: signal.signal(number, receive) for number in (*PREEMPTION, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def first_signal(received: list[int]) -> int:
    """The number of the first signal, or 0. All ranks get the same, even if only one of them has received a signal."""
    return max_over_ranks(received[0] if received else 0)
