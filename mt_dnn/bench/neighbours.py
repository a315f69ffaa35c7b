"""Measures what other work on the same cores costs: a busy process, or a second run side by side.

Each case runs in fresh processes, because torch reads how its threads wait when it is imported. Run it on a machine
that has nothing else to do. A waiting policy in the environment (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``) is measured
in place of the default one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.text_table import table
from mt_dnn.bench.synthetic import run_file
from mt_dnn.bench.workload import build_workload, machine
from mt_dnn.runs.config_file import load_config
from mt_dnn.threads import WAITING

BUSY = "while True: pass"
# By name: how many runs are made at once, whether a busy process runs too, whether threads wait actively.
CASES = {"alone": (1, False, False), "active": (1, False, True), "busy": (1, True, False), "pair": (2, False, False)}


def neighbours_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None = None,
    lengths: str | None = None,
    updates: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Prints the time of a step beside others, as multiples of the time alone.

    ``busy``: beside a busy process. ``pair``: two runs side by side, as a multiple of one after the other.
    ``alone``: the time alone, as a multiple of that with threads that wait actively.

    Raises:
        UserError: the configuration does not choose one task.
    """
    with run_file(path, shape=shape, lengths=lengths) as file:
        result = measure(file, overrides, updates=updates, rounds=rounds)
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def measure(path: Path, overrides: Sequence[str], *, updates: int, rounds: int) -> dict[str, Any]:
    """The figures that ``neighbours_command`` prints."""
    config = load_config(path, overrides)
    work = build_workload(config, "bench neighbours")  # a wrong run file is found here, and its rows are prepared
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in tqdm(range(rounds), desc="rounds", unit="round"):
        for name, (runs, busy, active) in CASES.items():
            seconds[name].append(_measured([str(path), *overrides], updates, runs=runs, busy=busy, active=active))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "busy": round(medians["busy"] / medians["alone"], 3),
        "pair": round(medians["pair"] / (2 * medians["alone"]), 3),
        "alone": round(medians["alone"] / medians["active"], 3),
        **{f"{name}_ms_per_step": round(1000 * value / updates, 1) for name, value in medians.items()},
        **machine(work.device),
    }


def _measured(arguments: Sequence[str], updates: int, *, runs: int, busy: bool, active: bool) -> float:
    """The seconds until all of ``runs`` processes have made their updates."""
    environment = dict(os.environ)
    if active:
        environment = {name: value for name, value in environment.items() if name not in WAITING}
        environment["OMP_WAIT_POLICY"] = "active"
    command = [sys.executable, "-m", "mt_dnn.bench.neighbours", str(updates), *arguments]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(runs)
    ]
    others: list[subprocess.Popen[bytes]] = []
    try:
        for worker in workers:
            _line(worker)  # it is ready
        others += [subprocess.Popen([sys.executable, "-c", BUSY])] if busy else []
        for worker in workers:
            assert worker.stdin is not None
            print("start", file=worker.stdin, flush=True)
        return max(float(_line(worker)) for worker in workers)
    finally:
        for other in others:
            other.kill()
            other.wait()
        for worker in workers:
            worker.kill()
            worker.communicate()  # closes its pipes


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise UserError("bench neighbours: a process has ended early; its message stands above")
    return line


def _work(updates: int, path: Path, overrides: Sequence[str]) -> None:
    """Builds a step, warms it up, waits for a line, makes the updates and prints the seconds that they took."""
    config = load_config(path, overrides)
    work = build_workload(config, "bench neighbours")
    stepper = work.stepper(config.adversary)
    warm_up, chunk = work.chunks(updates, 1)
    work.seconds(stepper, warm_up)
    print("ready", flush=True)
    sys.stdin.readline()
    print(work.seconds(stepper, chunk), flush=True)


if __name__ == "__main__":
    _work(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
