"""How many threads a command uses, and how they wait. torch reads both from the environment when it is imported."""

from __future__ import annotations

import os

# An idle thread of OpenMP spins for a while before it sleeps. On a core that another process needs, the spinning takes
# the time of both. GOMP_SPINCOUNT is for GNU's OpenMP, KMP_BLOCKTIME (in ms) for Intel's.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
NUMBER, CORES = "OMP_NUM_THREADS", "MT_DNN_CORES"  # the second is set if the user has not set the first


def set_threads(number: int | None) -> None:
    """Sets the number of threads. None: the cores that this process may use (affinity, quota of a container).

    What the user has set in the environment stays.
    """
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)
    if number is not None:
        os.environ[NUMBER] = str(number)
    elif NUMBER not in os.environ:
        from joblib import cpu_count

        os.environ[NUMBER] = os.environ[CORES] = str(cpu_count())


def divide_threads(processes: int) -> None:
    """Divides the cores between processes that this one is going to start, unless the user has set a number."""
    if os.environ.get(NUMBER) == os.environ.get(CORES, ""):
        os.environ[NUMBER] = str(max(1, int(os.environ[CORES]) // processes))
