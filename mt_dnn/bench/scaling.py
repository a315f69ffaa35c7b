"""Throughput of several processes beside one: the same global batches, rounds interleaved in one job."""

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
from mt_dnn.bench.workload import Workload, build_workload, machine
from mt_dnn.distributed.launch import launch, process_group
from mt_dnn.distributed.ranks import all_gather, barrier, is_main, local_device, main_first, rank, world_size
from mt_dnn.runs.config_file import load_config


def scaling_command(
    path: Path, overrides: Sequence[str], *, processes: int, updates: int, rounds: int, as_json: bool
) -> int:
    """Starts the processes, or is one of them; the first prints. Returns the exit code."""
    if processes < 2:
        raise UserError("--processes: give at least 2")
    if world_size() == 1:
        options = ["--processes", processes, "--updates", updates, "--rounds", rounds, *(["--json"] if as_json else [])]
        return launch(processes, ["bench", "scaling", str(path), *overrides, *map(str, options)])
    config = load_config(path, overrides)
    config = config.model_copy(update={"device": local_device(config.device)})
    torch.set_num_threads(1)  # as many processes as cores
    with process_group(timeout_s=config.distributed.timeout_s):
        work = main_first(lambda: build_workload(config, "bench scaling"))
        result = measure_scaling(work, updates=updates, rounds=rounds)
    if is_main():
        print(json.dumps(result) if as_json else table(("figure", "value"), [(k, str(v)) for k, v in result.items()]))
    return 0


def measure_scaling(work: Workload, *, updates: int, rounds: int) -> dict[str, Any]:
    """Examples per second of one process, of all together, and of all apart, which is what the machine can give.

    Apart, each process trains alone on whole batches; what they do at the same time counts together. The speed-up is
    that of the processes together over one.
    """
    alone, together = (work.stepper(work.config.adversary, alone=own) for own in (True, False))
    ways: dict[str, Callable[[Sequence[Any]], float]] = {
        "one": lambda chunk: work.seconds(alone, chunk) if rank() == 0 else 0.0,
        "together": lambda chunk: work.seconds(together, chunk, shared=True),
        "apart": lambda chunk: work.seconds(alone, chunk),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", disable=not is_main())):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for way in order:
            barrier()
            seconds = max(all_gather(ways[way](chunk)))
            examples = sum(map(len, chunk)) * (world_size() if way == "apart" else 1)
            if number > 0:  # the first round warms up
                found[way].append(examples / seconds)
    pairs = {way: [value / one for value, one in zip(found[way], found["one"], strict=True)] for way in found}
    return {
        **{f"{way}_examples_per_s": round(statistics.median(values), 2) for way, values in found.items()},
        "speedup": round(statistics.median(pairs["together"]), 3),
        "speedup_min": round(min(pairs["together"]), 3),
        "speedup_max": round(max(pairs["together"]), 3),
        "speedup_apart": round(statistics.median(pairs["apart"]), 3),
        "processes": world_size(),
        "batch_size": work.config.train.batch_size,
        **machine(work.device),
    }
