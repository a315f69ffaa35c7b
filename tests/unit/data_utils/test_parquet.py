"""Files that are small and hold much: each ends in a message or is read with little memory."""

from __future__ import annotations

import gzip
import tracemalloc
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

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


def values_of(kind: pa.DataType, rows: int) -> pa.Array:
    """Rows that share one value of 1 MB, in a type."""
    size, numbers = 1_000_000, pa.array(np.zeros(rows, np.int32))
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([b"x" * size] * rows, kind)
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([values_of(kind.field(0).type, rows)], ["text"])
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), values_of(kind.value_type, rows))
    text = "x" * size
    return pa.DictionaryArray.from_arrays(numbers, pa.array([text]).cast(kind))


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (pa.binary(), 200),
        (pa.large_binary(), 200),
        (pa.binary(1_000_000), 200),
        (pa.list_(pa.string()), 60),
        (pa.list_(pa.list_(pa.binary())), 60),
        (pa.struct([("text", pa.string())]), 60),
        (pa.list_(pa.struct([("text", pa.string())])), 60),
    ],
    ids=str,
)
def test_a_value_of_any_type_that_rows_share(kind: pa.DataType, rows: int, tmp_path: Path) -> None:
    path = tmp_path / "t_train.parquet"
    pq.write_table(pa.table({"premise": values_of(kind, rows)}), path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 3_000_000
    allocated, peak, count = pa.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    for _, row in read_parquet(path):
        value = row["premise"]
        while not isinstance(value, str | bytes):
            (value,) = value.values() if isinstance(value, dict) else value
        assert len(value) == 1_000_000
        count, peak = count + 1, max(peak, pa.total_allocated_bytes() - allocated)
    assert tracemalloc.get_traced_memory()[1] < 40_000_000 * (2 if pa.types.is_fixed_size_binary(kind) else 1)
    tracemalloc.stop()
    assert count == rows and peak < (120_000_000 if pa.types.is_fixed_size_binary(kind) else 40_000_000)


def test_a_list_that_has_one_text_many_times_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "t_train.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), pa.array(["x" * 100_000]))
    rows = pa.ListArray.from_arrays(pa.array([0, 1, 1999, 2000], pa.int32()), texts)
    pq.write_table(pa.table({"words": rows}), path, store_schema=False)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"t_train.parquet: row 2: the row has more than 10,000,000 bytes"):
        list(read_parquet(path))
    assert tracemalloc.get_traced_memory()[1] < 40_000_000  # 200 MB of text
    tracemalloc.stop()


def test_numbers_that_are_the_same_in_long_lists(tmp_path: Path) -> None:
    path = tmp_path / "t_train.parquet"
    rows, length = 300, 100_000  # 0.8 MB each
    offsets = pa.array(np.arange(rows + 1) * length, pa.int64())
    values = pa.LargeListArray.from_arrays(offsets, pa.array(np.zeros(rows * length, np.int64)))
    pq.write_table(pa.table({"numbers": values}), path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    with path.open("rb") as file:
        assert max(map(len, parquet._batches(path, file))) <= parquet.MOST_BYTES / 800_000


def test_an_unpacked_file_takes_at_most_half_of_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t_train.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1" + bytes(5_000_000), compresslevel=1))
    monkeypatch.setattr(parquet.shutil, "disk_usage", lambda file: SimpleNamespace(free=6_000_000))
    with pytest.raises(UserError, match=r"t_train.parquet.gz: unpacked, it has more than 3,000,000 bytes, half of the"):
        list(read_parquet(path))


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
        "bytes": pa.array([b"a", None] * (len(texts) // 2)),
        "lists": pa.array([[["a"], []], None, [], [None, ["b", "long" * 100]]] * (len(texts) // 4)),
        "structs": pa.array([{"a": "x", "b": 1}, {"a": None, "b": 2}, None, {"a": "y"}] * (len(texts) // 4)),
        "inner": pa.array([[{"a": "x"}], [], None, [{"a": "y"}, None]] * (len(texts) // 4)),
        "pairs": pa.array([[("k", "v"), ("l", None)], None] * (len(texts) // 2), pa.map_(pa.string(), pa.string())),
        "fixed": pa.array([["a", "b"], ["c", None]] * (len(texts) // 2), pa.list_(pa.string(), 2)),
    }
    path = tmp_path / "t_train.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=100)
    assert [row for _, row in read_parquet(path)] == pq.read_table(path).to_pylist()
    assert [place for place, _ in read_parquet(path)][-1] == f"{path}: row {len(texts)}"


@pytest.mark.parametrize("name", ["string_view", "binary_view"])
def test_texts_in_views(name: str, tmp_path: Path) -> None:
    path, kind = tmp_path / "t_train.parquet", getattr(pa, name)()
    texts = pa.array(["a text", None, "more"]).cast(pa.binary() if "binary" in name else pa.string()).to_pylist()
    views = pa.array(texts, kind)
    try:
        pq.write_table(pa.table({"text": views, "list": pa.ListArray.from_arrays([0, 2, 2, 3], views)}), path)
    except pa.ArrowNotImplementedError:
        pytest.skip("this version of Arrow cannot write them")
    lists = [texts[:2], [], texts[2:]]
    assert [row for _, row in read_parquet(path)] == [
        {"text": text, "list": items} for text, items in zip(texts, lists, strict=True)
    ]


def test_rows_with_many_bytes_come_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 5000)
    path = tmp_path / "t_train.parquet"
    pq.write_table(pa.table({"premise": [f"{row:01000d}" for row in range(50)]}), path, use_dictionary=False)
    with path.open("rb") as file:
        assert max(map(len, parquet._batches(path, file))) <= 5
