"""Several processes of this machine that make runs together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from subprocess import Popen

from mt_dnn.distributed.launcher import BAD_INPUT, SAVED, start_worker
from mt_dnn.distributed.signals import exit_code, stop_signals
from mt_dnn.studies.attempts import process_name

LOOK_S = 0.2  # seconds between two looks at the workers
PROGRESS_S = 5.0  # seconds between two times that progress is said


@dataclass
class Workers:
    """Processes that make runs. Each has a GPU of its own if there are enough.

    Args:
        count: how many.
        arguments: gives those of ``mt-dnn`` for a worker that starts.
        died: gets the ``process_name`` of a worker that has died, and a line that says why. Returns whether it was
            making a run, and counts this as a failed attempt.
        say: gets lines for the user.
        progress: says how far the work is.
        stop_timeout_s: seconds that workers have to save after a signal, before they are killed.
    """

    count: int
    arguments: Callable[[], Sequence[str]]
    died: Callable[[str, str], bool]
    say: Callable[[str], None]
    progress: Callable[[], None]
    stop_timeout_s: float = 600
    _running: dict[int, Popen[bytes]] = field(default_factory=dict)  # by the number of the worker
    _worst: int = 0  # exit code so far

    def __call__(self) -> int:
        """Starts the workers and waits for them. One that has died is started again if it was making a run.

        Returns:
            The exit code: 0 if all workers have finished or saved, 130 if they have saved after Ctrl-C, 2 for bad
            input, else 1.
        """
        alive, held = os.pipe()
        try:
            with stop_signals() as received:
                for number in range(self.count):
                    self._start(number, alive)
                self._wait(received, alive)
                self.progress()
                return self._worst or (exit_code(received[0]) if received else 0)
        finally:
            for worker in self._running.values():
                worker.kill()
                worker.wait()
            os.close(alive)
            os.close(held)

    def _start(self, number: int, alive: int) -> None:
        gpus = visible_gpus()
        device = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        self._running[number] = start_worker(self.arguments(), device, alive)

    def _wait(self, received: list[int], alive: int) -> None:
        """Waits until all workers have ended, or their time is up. A signal, or one that has failed, stops them all."""
        stop_at, say_at = float("inf"), time.monotonic() + PROGRESS_S
        while self._running and time.monotonic() < stop_at:
            for number, worker in list(self._running.items()):
                code = worker.poll()
                if code is not None:
                    del self._running[number]
                    if self._ended(worker.pid, code, stopping=bool(received) or self._worst != 0):
                        self._start(number, alive)
            if (received or self._worst) and stop_at == float("inf"):
                stop_at = time.monotonic() + self.stop_timeout_s
                for worker in self._running.values():
                    worker.send_signal(signal.SIGTERM)
            if time.monotonic() > say_at:
                self.progress()
                say_at = time.monotonic() + PROGRESS_S
            time.sleep(LOOK_S)
        if self._running:
            self.say(f"the workers have not saved within {self.stop_timeout_s:g} s, so they are killed")
            self._worst = self._worst or 1

    def _ended(self, process: int, code: int, *, stopping: bool) -> bool:
        """Notes the end of a worker. Returns whether it has to be started again."""
        if code in SAVED or (code == -signal.SIGTERM and stopping):
            return False
        if code < 0 and not stopping:
            reason = "; perhaps the machine had no memory left" if code == -signal.SIGKILL else ""
            error = f"its process was ended by {signal.Signals(-code).name}{reason}"
            if self.died(process_name(process), error):
                return True
            self.say(f"a worker ended before it made a run: {error}")
        self._worst = BAD_INPUT if BAD_INPUT in (code, self._worst) else 1
        return False


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name for name in named.split(",") if name] if named else [str(n) for n in range(torch.cuda.device_count())]
