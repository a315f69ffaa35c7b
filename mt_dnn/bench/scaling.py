"""Throughput of several processes beside one process, on the same batches.

One process alone, all processes together and all processes apart take turns in every round of one job.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.text_table import table
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.workload import Workload, build_workload, machine
from mt_dnn.distributed.launch import process_group
from mt_dnn.distributed.launcher import launch
from mt_dnn.distributed.ranks import all_gather, barrier, is_main, local_device, main_first, rank, world_size


def scaling_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None,
    lengths: str | None,
    processes: int,
    updates: int,
    rounds: int,
    as_json: bool,
) -> int:
    """Starts the processes. Each of them measures, and the first one prints. Returns the exit code.

    Raises:
        UserError: fewer than two processes.
    """
    if processes < 2:
        raise UserError(f"--processes {processes}: give at least 2")
    if world_size() == 1:
        numbers = {"--processes": processes, "--updates": updates, "--rounds": rounds}
        options = {**numbers, "--shape": shape, "--lengths": lengths}
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        files = [] if path is None else [str(path)]
        return launch(processes, ["bench", "scaling", *files, *overrides, *given, *(["--json"] if as_json else [])])
    with run_config(path, overrides, shape=shape, lengths=lengths) as asked:
        config = asked.model_copy(update={"device": local_device(asked.device)})
        torch.set_num_threads(1)  # as many processes as cores
        with process_group(timeout_s=config.distributed.timeout_s):
            work = main_first(lambda: build_workload(config, "bench scaling"))
            result = measure_scaling(work, updates=updates, rounds=rounds)
    if is_main():
        print(json.dumps(result) if as_json else table(("figure", "value"), [(k, str(v)) for k, v in result.items()]))
    return 0


def measure_scaling(work: Workload, *, updates: int, rounds: int) -> dict[str, Any]:
    """Measures examples per second in three ways of training, and speed-ups. Each figure is the median over rounds.

    - ``one``: the first process trains, and the others wait.
    - ``together``: the processes share each batch. ``speedup`` compares this way with ``one``.
    - ``apart``: each process trains its own copy of the model on complete batches, at the same time. The examples of
      all are added up. This is the upper limit for this machine.
    """
    alone, together = work.stepper(work.config.adversary, alone=True), work.stepper(work.config.adversary)
    ways: dict[str, Callable[[Sequence[Any]], float]] = {
        "one": lambda chunk: work.seconds(alone, chunk) if rank() == 0 else 0.0,
        "together": lambda chunk: work.seconds(together, chunk, shared=True),
        "apart": lambda chunk: work.seconds(alone, chunk),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", disable=not is_main())):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for way in order:
            barrier()
            seconds = max(all_gather(ways[way](chunk)))
            examples = sum(map(len, chunk)) * (world_size() if way == "apart" else 1)
            if number > 0:  # the first round warms up
                rates[way].append(examples / seconds)
    speedups = {way: [rate / single for rate, single in zip(rates[way], rates["one"], strict=True)] for way in rates}
    return {
        **{f"{way}_examples_per_s": round(statistics.median(values), 2) for way, values in rates.items()},
        "speedup": round(statistics.median(speedups["together"]), 3),
        "speedup_min": round(min(speedups["together"]), 3),
        "speedup_max": round(max(speedups["together"]), 3),
        "speedup_apart": round(statistics.median(speedups["apart"]), 3),
        "processes": world_size(),
        "batch_size": work.config.train.batch_size,
        **machine(work.device),
    }
