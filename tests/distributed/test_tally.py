"""The tally over two processes: both end an epoch with the sum of what each has counted."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.tally import Tally
from mt_dnn.distributed.ranks import rank
from tests.distributed.workers import run_ranks

RANKS = 2
TASK = TaskDef.model_validate(
    {
        **TASK_TYPES["classification"].defaults,
        "name": "nli",
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["a", "b", "c"],
    }
)


def count_on_a_rank(folder: Path) -> None:
    """Rank 0 predicts b for a, rank 1 predicts c for a twice; only rank 1 sees the second epoch's example."""
    tally, records = Tally(TASK), []
    logits = torch.eye(3)[[1] if rank() == 0 else [2, 2]]
    tally.count(torch.zeros(len(logits), dtype=torch.int64), logits)
    tally.end_epoch()
    records.append(tally.record())
    if rank() == 1:
        tally.count(torch.tensor([2]), torch.eye(3)[[0]])
    tally.end_epoch()
    records.append(tally.record())
    (folder / f"{rank()}.json").write_text(json.dumps(records))


def test_counts_are_summed_over_ranks(tmp_path: Path) -> None:
    run_ranks(RANKS, count_on_a_rank, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(RANKS))
    assert first == second
    assert first[0]["counts"] == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert first[0]["probabilities"][0] == [0, 2 / 5, 3 / 5]
    assert first[1]["counts"] == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
