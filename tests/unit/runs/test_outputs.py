"""Outputs of rows: one array in row order, whatever the order of batches, and memory for its numbers only."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from data_utils import scratch
from data_utils.gold_labels import check_uids
from data_utils.prepared import Prepared
from data_utils.repeated import repeated_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches.batch import Batch
from mt_dnn.runs import outputs
from mt_dnn.runs.evaluate import predict_split, result
from mt_dnn.runs.outputs import Passes, row_outputs
from mt_dnn.runs.predictions import prediction_records
from mt_dnn.tasks.units import NoUnits

TASK = TaskDef(
    name="t",
    task_type="classification",
    data_format="single",
    labels=("no", "yes"),
    **{**TASK_TYPES["classification"].defaults, "metrics": ("accuracy", "f1", "f1_macro", "mcc", "confusion_matrix")},
)


class FirstToken(nn.Module):
    """Says the first token of each row, or of each decision, and its half."""

    def units(self, task: str) -> NoUnits:
        return NoUnits()

    def forward(self, batch: Batch) -> Tensor:
        first = batch.input_ids[batch.offsets[:-1]].float()
        if batch.decisions is not None:
            first = first.repeat_interleave(batch.decisions.diff())
        return torch.stack([first, first / 2], dim=1)


def split_of(rows: int, *, decisions: bool = False) -> Prepared:
    """Rows of 1 to 5 tokens. Row i begins with the token i, and has label i mod 2."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(1, 6, rows).cumsum()])
    tokens = np.ones(offsets[-1], np.int32)
    tokens[offsets[:-1]] = np.arange(rows)
    bounds, labels = pa.array(offsets, pa.int64()), pa.array(np.arange(rows) % 2)
    if decisions:
        counts = np.concatenate([[0], (np.arange(rows) % 3 + 1).cumsum()])
        labels = pa.LargeListArray.from_arrays(pa.array(counts, pa.int64()), pa.array(np.zeros(counts[-1], np.int64)))
    columns = {
        "uid": pa.array([str(row) for row in range(rows)]),
        "tokens": pa.LargeListArray.from_arrays(bounds, pa.array(tokens)),
        "token_types": pa.LargeListArray.from_arrays(bounds, pa.array(tokens * 0)),
        "label": labels,
    }
    batch = pa.RecordBatch.from_pydict(columns)
    return Prepared.of_columns(Path("t"), batch, {"labelled": True, "source": "t", "hash": "0", "rows": rows})


PASSES = Passes(max_tokens=2048, precision="fp32", device=torch.device("cpu"))


@pytest.mark.parametrize("decisions", [False, True])
def test_outputs_are_in_row_order(decisions: bool) -> None:
    split = split_of(70, decisions=decisions)
    passes = Passes(max_tokens=20, precision="fp32", device=torch.device("cpu"))
    found = row_outputs(FirstToken(), "t", split, lambda logits, batch: logits, passes)  # type: ignore[arg-type]
    counts = [row % 3 + 1 if decisions else 1 for row in range(70)]
    assert [output.tolist() for output in found] == [[[row, row / 2]] * count for row, count in enumerate(counts)]
    assert len(found) == 70
    assert [part.tolist() for part in found[-2:]] == [found[68].tolist(), found[-1].tolist()]


def test_ranks_share_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    split, passes = split_of(70), Passes(max_tokens=20, precision="fp32", device=torch.device("cpu"))
    shares: list[Any] = []

    def run(rank: int, all_gather: Callable[[Any], Any]) -> list[Any]:
        values: dict[str, Any] = {"connected": True, "world_size": 2, "rank": rank}
        for name, value in values.items():
            monkeypatch.setattr(outputs, name, partial(int, value))
        monkeypatch.setattr(outputs, "all_gather", all_gather)
        model: Any = FirstToken()
        return [output.tolist() for output in row_outputs(model, "t", split, lambda logits, batch: logits, passes)]

    def one_share(share: Any) -> list[Any]:
        shares.append(share)
        return [share]

    for rank in (0, 1):
        run(rank, one_share)
    assert 0 < len(shares[1]) <= len(shares[0])
    assert run(0, lambda share: shares) == [[[row, row / 2]] for row in range(70)]


def evaluated(split: Prepared) -> None:
    decoded = predict_split(FirstToken(), TASK, TASK, split, PASSES)  # type: ignore[arg-type]
    result(TASK, "dev", split, decoded)
    assert sum(1 for _ in prediction_records(TASK, split, decoded)) == len(split)


WORK: dict[str, Callable[[Prepared], Any]] = {
    "evaluate and write": evaluated,
    "repeated rows": lambda split: repeated_rows(split, split),
    "equal names": lambda split: check_uids(split, Path("t"), TASK),
}


@pytest.mark.parametrize("name", WORK)
def test_memory_grows_by_few_numbers_a_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arrays, which are in files then, do not count."""
    monkeypatch.setattr(scratch, "LARGE", 4096)
    monkeypatch.setattr(scratch, "AT_ONCE", 512)
    peaks = []
    for rows in (1000, 9000):
        split = split_of(rows)
        WORK[name](split_of(50))  # what is imported or built once
        tracemalloc.start()
        WORK[name](split)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 8000 < 40  # bytes a row: its length, its place in their order, and a few flags
