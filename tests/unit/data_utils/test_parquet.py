"""Files that are small and hold much: each ends in a message or is read with little memory."""

from __future__ import annotations

import gzip
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils import parquet
from data_utils.errors import UserError
from data_utils.files import LONGEST_ROW
from data_utils.inputs import read_inputs
from data_utils.parquet import read_parquet
from data_utils.row_files import read_values
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES

TASK = TaskDef(
    name="t",
    task_type="classification",
    data_format="single",
    labels=("no", "yes"),
    **TASK_TYPES["classification"].defaults,
)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(bytes(3 * LONGEST_ROW), compresslevel=1)


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "csv", "parquet", "conll"])
def test_many_bytes_behind_a_few_compressed_ones(ending: str, bomb: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"t_train.{ending}.gz"
    path.write_bytes(bomb)
    task = TASK
    if ending == "conll":
        task = TASK.model_copy(update={"task_type": "sequence_labelling", "data_format": "words"})
    message = "it does not begin with PAR1" if ending == "parquet" else "more than 10,000,000 bytes"
    tracemalloc.start()
    for read in (lambda: read_values(path, task), lambda: read_inputs(str(path), [task])):
        with pytest.raises(UserError, match=message):
            list(read())
    assert tracemalloc.get_traced_memory()[1] < 5 * LONGEST_ROW  # a line, and the copies of it that readers make
    tracemalloc.stop()


def test_a_text_that_all_rows_share_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "t_train.parquet"
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array(["x" * 4_000_000]))
    pq.write_table(pa.table({"premise": shared, "label": ["yes"] * 1000}), path, store_schema=False)
    assert path.stat().st_size < 1_000_000  # 4 GB of rows
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    for location, row in islice(read_parquet(path), 5):
        assert len(row["premise"]) == 4_000_000 and row["label"] == "yes" and location.startswith(f"{path}: row ")
        assert pa.total_allocated_bytes() - before < 60_000_000
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()


def test_rows_are_those_that_arrow_reads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rows among short ones, nulls, and values of other types."""
    monkeypatch.setattr(parquet, "LONGEST_ROW", 1000)
    texts = ["short", None, "long" * 200, "", "short", "long" * 240, "ä" * 400, "short"] * 40
    columns = {
        "premise": pa.array(texts),
        "more": pa.array(["all the same"] * len(texts), pa.large_string()),
        "number": pa.array([None, *range(1, len(texts))]),
        "words": pa.array([["a", "b"]] * len(texts)),
        "kind": pa.array(["x", "y"] * (len(texts) // 2)).dictionary_encode(),
    }
    path = tmp_path / "t_train.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=100)
    assert [row for _, row in read_parquet(path)] == pq.read_table(path).to_pylist()
    assert [place for place, _ in read_parquet(path)][-1] == f"{path}: row {len(texts)}"


def test_rows_with_many_bytes_come_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 5000)
    path = tmp_path / "t_train.parquet"
    pq.write_table(pa.table({"premise": [f"{row:01000d}" for row in range(50)]}), path, use_dictionary=False)
    with path.open("rb") as file:
        assert max(map(len, parquet._batches(file))) <= 5
