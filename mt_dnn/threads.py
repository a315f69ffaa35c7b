"""How many threads a command uses, and how they wait. torch reads both from the environment when it is imported.

torch wakes its threads for every operation on a large tensor. A thread that sleeps wakes slowly. A thread that looks
for work again and again (it *spins*) is ready at once, but takes a core that another process may need. So threads spin
while cores are free, and sleep while they are not (`watch_neighbours`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress

# GOMP_SPINCOUNT is for GNU's OpenMP, KMP_BLOCKTIME (in ms) for Intel's, whose threads always sleep.
WAITING = {"GOMP_SPINCOUNT": "100000", "KMP_BLOCKTIME": "0"}
POLICY = "OMP_WAIT_POLICY"
NUMBER, CORES = "OMP_NUM_THREADS", "MT_DNN_CORES"  # the second is set if the user has not set the first
INTERVAL = 0.2  # seconds between two looks
WINDOW, CALM = 5, 5  # looks: what the others used is a mean over so many; so many free ones make threads spin again
SHARE = 0.1  # of a core: what the others may use before threads sleep
STATISTICS = "/proc/stat"


def set_threads(number: int | None) -> None:
    """Sets the number of threads. None: the cores that this process may use (affinity, quota of a container).

    What the user has set in the environment stays.
    """
    if not {POLICY, *WAITING} & os.environ.keys():
        os.environ.update(WAITING)
    if number is not None:
        os.environ[NUMBER] = str(number)
    elif NUMBER not in os.environ:
        from joblib import cpu_count

        os.environ[NUMBER] = os.environ[CORES] = str(cpu_count())


def ignore_neighbours() -> None:
    """Idle threads spin for a moment and then sleep, whatever others do. Call it before torch is imported.

    For measuring two processes in turns: each would find the other one a neighbour. What the user has set stays.
    """
    if not is_chosen():
        os.environ |= {**WAITING, "GOMP_SPINCOUNT": "50000"}  # another number than the usual one counts as chosen


def is_chosen() -> bool:
    """Whether the user has set how threads wait."""
    return POLICY in os.environ or any(os.environ.get(name, value) != value for name, value in WAITING.items())


def divide_threads(processes: int) -> None:
    """Divides the cores between processes that this one is going to start, unless the user has set a number."""
    if os.environ.get(NUMBER) == os.environ.get(CORES, ""):
        os.environ[NUMBER] = str(max(1, int(os.environ[CORES]) // processes))


def watch_neighbours(threads: int) -> None:
    """From now on, idle threads sleep while other processes need the cores. Does nothing if the user chose a policy.

    GNU's OpenMP reads its settings once, when it is loaded. But its threads spin only while there are no more of them
    than cores (GOMP_SPINCOUNT in its manual). So while the cores are busy, threads that do nothing are added. The
    threads that work stay as many as they are, so that no result changes.

    Args:
        threads: how many threads torch uses.
    """
    watched = any(isinstance(thread, Watch) for thread in threading.enumerate())
    if threads > 1 and not is_chosen() and not watched and hasattr(os, "sched_getaffinity"):
        Watch(threads).start()


class Watch(threading.Thread):
    """Looks now and then whether other processes use the cores of this one."""

    def __init__(self, threads: int) -> None:
        from joblib import cpu_count

        super().__init__(name="neighbours", daemon=True)
        self.threads, self.cores = threads, os.sched_getaffinity(0)
        self.limited = cpu_count() < len(self.cores)  # a quota of processor time: spinning would use it up

    def run(self) -> None:
        teams, times = Teams(self.threads, len(self.cores)), deque([self._times()], maxlen=WINDOW + 1)
        with suppress(RuntimeError, ValueError):  # no more threads can be had, or an unknown format: only time is lost
            teams.adapt(crowded=True)  # until something is known
            while True:
                time.sleep(INTERVAL)
                times.append(self._times())
                teams.adapt(crowded=self.is_crowded(times[0], times[-1]))

    def _times(self) -> tuple[float, float, float]:
        """Seconds on the clock, and seconds of processor time of all processes on these cores and of this one."""
        everybody = busy_seconds(self.cores)
        return time.monotonic(), everybody, time.process_time()

    def is_crowded(self, before: tuple[float, float, float], now: tuple[float, float, float]) -> bool:
        """Whether others need the cores. ``before``, ``now``: seconds of the clock, of all processes, of this one."""
        seconds, everybody, this = (after - earlier for earlier, after in zip(before, now, strict=True))
        if self.limited or everybody < this / 2:  # the second: a container that hides what others do
            return True
        return (everybody - this) / seconds > len(self.cores) - self.threads + SHARE


class Teams:
    """Threads of OpenMP that do nothing. While they live, there are more threads than cores."""

    def __init__(self, threads: int, cores: int) -> None:
        self.number = (cores - threads) // (threads - 1) + 1  # each adds `threads` - 1
        self.end: threading.Event | None = None  # None: there are no teams
        self.calm = 0

    def adapt(self, crowded: bool) -> None:
        """Adds the teams at once if the cores are needed, and ends them when they were free for some time."""
        self.calm = 0 if crowded else self.calm + 1
        if crowded and self.end is None:
            self.end = threading.Event()
            for _ in range(self.number):
                threading.Thread(target=_form_team, args=(self.end,), daemon=True).start()
        elif self.calm >= CALM and self.end is not None:
            self.end.set()
            self.end = None


def _form_team(end: threading.Event) -> None:
    import torch

    torch.zeros(1 << 18).add_(1)  # large enough for several threads; OpenMP keeps them as long as this thread lives
    end.wait()


def busy_seconds(cores: set[int]) -> float:
    """The seconds that these cores have worked since the machine started, summed. 0 if this cannot be read."""
    try:
        with open(STATISTICS, encoding="ascii") as file:
            rows = [line.split() for line in file if line.startswith("cpu")]
    except OSError:
        return 0.0
    ticks = 0
    for name, user, nice, system, _idle, _waits, interrupts, soft, *_ in rows:
        if name[3:].isdigit() and int(name[3:]) in cores:
            ticks += int(user) + int(nice) + int(system) + int(interrupts) + int(soft)
    return ticks / os.sysconf("SC_CLK_TCK")
