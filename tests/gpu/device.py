"""The device of the tests in this folder. ``MT_DNN_TEST_DEVICE=cpu`` tries the tests themselves on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import local_batch
from mt_dnn.batches.draws import seed_step
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.runs.start import Parts
from tests.parts import parts

DEVICE = os.environ.get("MT_DNN_TEST_DEVICE", "cuda")
ON_GPU = DEVICE.startswith("cuda")
NEEDS_DEVICE = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="needs a GPU"),
]
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
MODES = ("none", "vat", "tat", "freelb", "rapt", "pgd", "freeat", "yopo", "r3f", "r4f", "rdrop")
NO_DROPOUT = ("encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0")
QUICK = (
    "tasks=[same]",
    "optimizer.name=adamw",
    "optimizer.lr=2e-3",
    "optimizer.lookahead.enabled=false",
    "schedule.warmup_fraction=0",
)


def run_on(device: str, workspace: Path, *options: str, mode: str = "none") -> Parts:
    """The parts of a run on a device."""
    layers = ["adversary.max_layer=2"] if mode == "rapt" else []
    return parts(workspace, f"device={device}", *QUICK, f"adversary.mode={mode}", *layers, *options)


def batch_of(run: Parts, task: str = "same", *, seed: int = 1) -> Batch:
    """The first sixteen training rows of a task, on the device of the run."""
    rows = torch.arange(16).numpy()
    return local_batch(run.train_splits[task], MicroBatch(task, rows), seed).to(run.device)


def losses(run: Parts, updates: int, *, task: str = "same") -> list[float]:
    """The losses of some updates on the same rows."""
    run.model.train()
    found = []
    for step in range(updates):
        seed_step(1, step)
        loss, _, _ = run.stepper([batch_of(run, task, seed=step)], step)
        found.append(float(loss))
    return found


@contextmanager
def no_wait() -> Iterator[None]:
    """In this context a wait for the GPU is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def kernels_of(run: Any) -> set[str]:
    """The names of the kernels that the GPU runs when ``run`` is called."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    return {event.name for event in profile.events() or []}
