"""Peak memory of a side of a comparison. On a CPU a process of its own builds this side only."""

from __future__ import annotations

import gc
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.bench.workload import build_rows, with_model
from mt_dnn.runs.build import choose_device
from mt_dnn.runs.config import RunConfig

OURS, PEER = "ours", "peer"
STATUS = Path("/proc/self/status")


def peak_megabytes(side: str, config: RunConfig, updates: int) -> int | None:
    """The most memory that one side needs for ``updates`` updates, twice, in 10⁶ bytes.

    On a GPU: the memory of the GPU that tensors had, with those that this process holds when it calls. On a CPU: the
    resident memory of a new process, with Python and all modules. None where the system does not say.

    Args:
        side: ``OURS`` or ``PEER``.
    """
    if choose_device(config.device).type == "cuda":
        free_memory()
        return _measure(side, config, updates)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, side, config, updates).result()


def free_memory() -> None:
    """Gives the memory of objects that nothing uses any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _measure(side: str, config: RunConfig, updates: int) -> int | None:
    rows = build_rows(config, "bench")
    if rows.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(rows.device)
    chunk = rows.chunk(updates)
    if side == OURS:
        work = with_model(rows)
        stepper = work.stepper(NoneOptions())
        for _ in range(2):
            work.seconds(stepper, chunk)
    else:
        from mt_dnn.bench.peer import HFTrainer  # imports Trainer, which our side does not need

        HFTrainer(rows).train(chunk, 2, lambda number: None)
    if rows.device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(rows.device) / 1e6)
    # getrusage would count the memory of the process that has started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8")) if STATUS.exists() else None
    return None if found is None else round(int(found[1]) * 1024 / 1e6)
