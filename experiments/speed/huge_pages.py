"""How much faster is training when the memory of the process lies in huge pages? On Linux with glibc 2.35 or newer.

OMP_NUM_THREADS=1 python experiments/speed/huge_pages.py --shape minilm --lengths cola

A page is the piece of memory that the system maps at once: 4 KiB, and 2 MiB if huge. glibc asks for huge pages when the
environment says GLIBC_TUNABLES=glibc.malloc.hugetlb=1. The same benchmark runs with and without it, in turns. The
medians over the rounds are printed, and the ratios with their lowest and highest round. All arguments go to
mt-dnn bench throughput.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
ROUNDS = 3
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # the system's answer stands in brackets


def timed(arguments: Sequence[str], variables: Mapping[str, str]) -> dict[str, float]:
    """Runs the benchmark once. Returns what took how long, in milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name not in HUGE} | dict(variables)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], env=environment, check=True)
    figures = {"import of torch": 1000 * (time.perf_counter() - began)}
    command = [sys.executable, "-m", "mt_dnn.cli", "bench", "throughput", *arguments]
    options = ["--updates", "2", "--rounds", "1", "--no-memory", "--json"]
    done = subprocess.run([*command, *options], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    figures |= {"our step": result["ours_ms_per_step"], "the Trainer's step": result["peer_ms_per_step"]}
    return figures


def main(arguments: Sequence[str]) -> None:
    without, huge = list[dict[str, float]](), list[dict[str, float]]()
    for _ in range(ROUNDS):
        without.append(timed(arguments, {}))
        huge.append(timed(arguments, HUGE))
    print(f"{MODE}: {MODE.read_text().strip() if MODE.exists() else 'not there'}")
    for name in without[0]:
        before, after = [figures[name] for figures in without], [figures[name] for figures in huge]
        ratios = sorted(a / b for a, b in zip(before, after, strict=True))
        print(
            f"{name}: {statistics.median(before):.0f} ms, {statistics.median(after):.0f} ms with huge pages,"
            f" {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) times as fast"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
