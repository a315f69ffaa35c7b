"""Starts the workers of a run on this machine, hands signals on to them, and gives one exit code for all of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from subprocess import Popen

from torch.distributed import TCPStore

from data_utils.errors import tell
from mt_dnn.distributed.output import lasting_output
from mt_dnn.distributed.signals import LAUNCHER_PIPE, exit_code, stop_signals

COMMAND = (sys.executable, "-m", "mt_dnn.cli")
SAVED = (0, exit_code(signal.SIGINT))  # exit codes of workers that have finished or saved
BAD_INPUT = 2
PATIENCE_S = 10.0  # after one worker has failed, so long the others may say what they have seen of it


def launch(processes: int, arguments: Sequence[str], *, restarts: int = 0, stop_timeout_s: float = 30) -> int:
    """Runs ``mt-dnn`` with these arguments in several processes on this machine, and returns the exit code.

    If a worker dies, all workers are started again, at most ``restarts`` times. A signal to this process asks the
    workers to save. They have ``stop_timeout_s`` seconds for it.

    Returns:
        0 if all workers have finished or saved, 130 if they have saved after Ctrl-C, 2 for bad input, else 1.
    """
    with lasting_output(), stop_signals() as received:
        for _ in range(restarts + 1):
            codes = _attempt(processes, arguments, received, stop_timeout_s)
            failed = [code for code in codes if code not in SAVED]
            if not failed or received or BAD_INPUT in failed:
                break
        if not failed:
            return exit_code(received[0]) if received else max(codes)
        if received:
            name = signal.Signals(received[0]).name
            tell(
                f"stopped by {name} before all processes had saved; the same command continues from the last "
                "checkpoint, or begins if there is none"
            )
        return BAD_INPUT if BAD_INPUT in failed else 1


def _attempt(processes: int, arguments: Sequence[str], received: list[int], stop_timeout_s: float) -> list[int]:
    """Starts the workers once and waits for them. Returns their exit codes. At the end none of them is left."""
    # The workers find each other through this store. Each attempt has a new one, without the addresses of dead workers.
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    alive, held = os.pipe()  # a worker that waits at this end of the pipe is told when the launcher is killed
    shared = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # tells torch that the store is there already
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    workers: list[Popen[bytes]] = []
    try:
        for rank in map(str, range(processes)):
            workers.append(start_worker(arguments, {**shared, "RANK": rank, "LOCAL_RANK": rank}, alive))
        _wait(workers, received, stop_timeout_s)
    finally:
        for worker in workers:
            worker.kill()
        codes = [worker.wait() for worker in workers]
        os.close(alive)
        os.close(held)
    return codes


def start_worker(arguments: Sequence[str], environment: Mapping[str, str], alive: int) -> Popen[bytes]:
    """Starts ``mt-dnn`` with these arguments.

    Args:
        environment: variables that differ from those of this process.
        alive: the end of a pipe. The worker is told when this process, which holds the other end, has ended.
    """
    variables = {**os.environ, LAUNCHER_PIPE: str(alive), **environment}
    return Popen([*COMMAND, *arguments], env=variables, pass_fds=[alive])


def _wait(workers: Sequence[Popen[bytes]], received: list[int], stop_timeout_s: float) -> None:
    """Waits until all workers have ended. Hands the first signal on. Returns early when the time of the workers is up.

    Their time is up ``stop_timeout_s`` after a signal, and soon after one of them has failed.
    """
    deadlines: dict[str, float] = {}
    while any(worker.poll() is None for worker in workers):
        if received and "signal" not in deadlines:
            deadlines["signal"] = time.monotonic() + stop_timeout_s
            for worker in workers:
                worker.send_signal(signal.SIGTERM)  # whatever the signal was: workers ignore a second SIGTERM
        if any(worker.poll() not in (None, *SAVED) for worker in workers):
            deadlines.setdefault("failure", time.monotonic() + PATIENCE_S)
        if time.monotonic() > min(deadlines.values(), default=float("inf")):
            if min(deadlines, key=lambda name: deadlines[name]) == "signal":
                remedy = "give them more time with distributed.stop_timeout_s"
                tell(f"the processes have not saved within {stop_timeout_s:g} s; {remedy}")
            return
        time.sleep(0.05)
