"""Stopping on request: a signal asks the training loop to save and stop, and other commands to tidy up and exit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread, current_thread, main_thread
from typing import Any

# The signals of schedulers and of a terminal that is closed. A run that they stop, and that has saved, has not failed.
# Windows has only the first of them.
PREEMPTION = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
ENDING = tuple(number for number in PREEMPTION if number.name != "SIGUSR1")  # these end what has nothing to save
LAUNCHER_PIPE = "MT_DNN_LAUNCHER_PIPE"  # the launcher holds the other end of this pipe as long as it lives


@contextmanager
def stop_signals(*, ends_process: bool = False) -> Iterator[list[int]]:
    """Gives a list to which SIGTERM, SIGUSR1, SIGHUP and SIGINT append their numbers instead of ending the process.

    A signal may come twice, because a scheduler or a terminal sends it to the launcher and to its workers. So it never
    ends the process, except that the second SIGINT (Ctrl-C) acts as it did before. A signal that the process was
    started to ignore, for example SIGHUP under nohup, stays ignored. Only the main thread catches signals.

    ``ends_process``: the process ends after this context. If it was asked to stop, it has saved by then, so from then
    on it ignores these signals: a launcher or a scheduler may send them again.
    """
    received: list[int] = []
    if current_thread() is not main_thread():  # Python lets only the main thread catch signals
        yield received
        return

    def receive(number: int, _: object) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, old[number])

    old: dict[int, Any] = {}
    for stop in (*PREEMPTION, signal.SIGINT):
        if signal.getsignal(stop) != signal.SIG_IGN:
            old[stop] = signal.signal(stop, receive)
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_IGN if received and ends_process else handler)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the process as ``sys.exit`` does, so that files that are not complete are removed.

    The exit code is 128 + the number of the signal. Signals that come after the first do not cut the tidying short. A
    signal that the process was started to ignore stays ignored. Only the main thread catches signals.
    """

    def leave(number: int, _: object) -> None:
        for each in old:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    old: dict[int, Any] = {}
    if current_thread() is main_thread():
        old = {each: found for each in ENDING if (found := signal.getsignal(each)) != signal.SIG_IGN}
    try:
        for number in old:
            signal.signal(number, leave)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def exit_code(number: int) -> int:
    """The exit code of a run that has saved and stopped at the signal of this number."""
    return 0 if number in PREEMPTION else 128 + number


def follow_launcher() -> None:
    """Lets this worker get SIGTERM when its launcher ends, also if the launcher was killed and could hand nothing on.

    Without it, the workers would train on in the background. Does nothing in a process that ``launch`` has not started.
    """
    pipe = os.environ.get(LAUNCHER_PIPE, "")
    if pipe.isascii() and pipe.isdigit():
        Thread(target=_wait_for_end, args=(int(pipe),), daemon=True).start()


def _wait_for_end(pipe: int) -> None:
    try:
        os.read(pipe, 1)  # nothing is ever written, so this returns when the other end is closed
    except OSError:  # the variable is left over from a launcher that has not started this process
        return
    os.kill(os.getpid(), signal.SIGTERM)
