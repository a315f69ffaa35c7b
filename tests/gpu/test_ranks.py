"""Two GPUs: each process has its parts on its GPU, and both have the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mt_dnn.batches.collate import collate, share_of_rank
from mt_dnn.distributed.ranks import all_gather, rank, world_size
from mt_dnn.distributed.sharded import local_parts
from tests.distributed.workers import run_ranks
from tests.gpu.device import run_on
from tests.workspace import make_workspace

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")]


def step(folder: Path, strategy: str) -> None:
    run = run_on("cuda", folder, f"distributed.strategy={strategy}", "train.precision=bf16", mode="vat")
    split = run.train_splits["same"]
    for number in range(3):
        share = share_of_rank(split.lengths[:9], rank(), world_size(), number)
        run.stepper([collate(split, range(9), task="same", share=share).to(run.device)], number)
    parts = local_parts(run.model.parameters())
    assert {part.device for part in parts} == {torch.device("cuda", rank())}
    sums = all_gather(float(sum(part.double().sum() for part in parts)))
    assert strategy == "fsdp" or sums[0] == sums[1]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_every_process_trains_on_its_gpu(strategy: str, tmp_path: Path) -> None:
    make_workspace(tmp_path)
    run_ranks(2, step, tmp_path, strategy)
