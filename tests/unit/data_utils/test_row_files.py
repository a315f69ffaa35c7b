"""One rule for files of rows: what is the same in all formats is read alike, or refused with the same message."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import EmptyRow, UserError
from data_utils.files import LONGEST_ROW
from data_utils.inputs import read_inputs
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES

COLUMNS = ("uid", "label", "premise", "hypothesis")
TASK = TaskDef(
    name="t",
    task_type="classification",
    **{**TASK_TYPES["classification"].defaults, "data_format": "pair", "labels": ("x", "y")},
)
Row = tuple[str, str, str, str]
ROWS: list[Row] = [("1", "x", "a cat", "ö ünï 猫"), ("2", "y", "a dog", "two words")]
FORMATS = [f"{kind}{gz}" for kind in ("tsv", "csv", "jsonl", "parquet") for gz in ("", ".gz")]
LINES = FORMATS[:6]  # all but Parquet


def content(kind: str, rows: Sequence[Row], end: str = "\n") -> bytes:
    """A file of a format that has lines. Nothing is quoted."""
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
    else:
        lines = [("\t" if kind == "tsv" else ",").join(row) for row in (COLUMNS, *rows)]
    return "".join(f"{line}{end}" for line in lines).encode()


def write(folder: Path, name: str, data: bytes | Sequence[Row]) -> Path:
    """Writes rows, or the bytes of a file, in the format that the name says."""
    path, kind = folder / f"t_train.{name}", name.removesuffix(".gz")
    if kind == "parquet" and not isinstance(data, bytes):
        table = pa.table(dict(zip(COLUMNS, map(list, zip(*data, strict=True)), strict=True)))
        pq.write_table(table, folder / "plain")
        data = (folder / "plain").read_bytes()
    elif not isinstance(data, bytes):
        data = content(kind, data)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def texts(path: Path) -> list[tuple[str, str]]:
    """The texts of all rows. Training and prediction have to read the same."""
    rows = read_rows(path, TASK)
    assert rows.second is not None
    found = list(zip(rows.first, rows.second, strict=True))
    predicted = [row.texts(TASK) for row in read_inputs(str(path), [TASK]) if not row.is_blank]
    assert [(row["premise"], row["hypothesis"]) for row in predicted] == found
    return found


def refused(path: Path) -> str:
    """The message for a file. It has to be the same in training and prediction."""
    with pytest.raises(UserError) as training:
        read_rows(path, TASK)
    with pytest.raises(UserError) as prediction:
        [row.texts(TASK) for row in read_inputs(str(path), [TASK])]
    assert str(training.value) == str(prediction.value)
    return str(training.value).removeprefix(str(path))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        *("a\rb", "\rb", "a\0b", "a\x1b[31mb", "a\x85b\u2028c\x0cd", "  a  b ", "\ufeffa", "\u202e", "'", "\\n"),
        *("猫" * 50_000, "word " * 60_000),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_any_text_is_the_same_in_all_formats(name: str, text: str, tmp_path: Path) -> None:
    rows = [*ROWS, ("3", "x", text, "b"), ("4", "y", "a", f"{text}.")]
    assert texts(write(tmp_path, name, rows)) == [row[2:] for row in rows]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_text_is_a_text_in_training_and_no_question(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, [*ROWS, ("3", "x", "", "b")])
    assert read_rows(path, TASK).first == ["a cat", "a dog", ""]
    *_, row = read_inputs(str(path), [TASK])
    with pytest.raises(EmptyRow, match="premise is empty"):
        row.texts(TASK)


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"], ids=ascii)
def test_line_ends_and_a_byte_order_mark_are_no_text(name: str, begin: bytes, end: str, tmp_path: Path) -> None:
    data = begin + content(name.removesuffix(".gz"), ROWS, end)
    for whole in (data, data.rstrip(b"\r\n")):
        assert texts(write(tmp_path, name, whole)) == [row[2:] for row in ROWS]


@pytest.mark.parametrize("name", LINES)
def test_blank_lines_are_rows_to_predict_only(name: str, tmp_path: Path) -> None:
    first, *rest = content(name.removesuffix(".gz"), ROWS).splitlines(keepends=True)
    header = [first] if "jsonl" not in name else []
    rows = rest if header else [first, *rest]
    path = write(tmp_path, name, b"".join([*header, rows[0], b"\n", b" \t \r\n", rows[1], b"\n"]))
    assert texts(path) == [row[2:] for row in ROWS]
    found = list(read_inputs(str(path), [TASK]))
    assert [row.is_blank for row in found] == [False, True, True, False, True]
    assert [row.number for row in found] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("twice", ["premise", "genre"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_name_that_two_columns_have_is_refused(name: str, twice: str, count: int, tmp_path: Path) -> None:
    kind, names = name.removesuffix(".gz"), [*COLUMNS, twice, twice]
    rows = [[*row, "one", "other"] for row in ROWS][:count]
    if kind == "parquet":
        values = list(map(list, zip(*rows, strict=True))) if rows else [[]] * len(names)
        pq.write_table(
            pa.Table.from_arrays([pa.array(column, pa.string()) for column in values], names), tmp_path / "p"
        )
        data = (tmp_path / "p").read_bytes()
    elif kind == "jsonl":
        pairs = [zip(names, row, strict=True) for row in [*rows, *([] if rows else [[""] * len(names)])]]
        lines = [", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in row) for row in pairs]
        data = "".join(f"{{{line}}}\n" for line in lines).encode()
    else:
        data = "".join(("\t" if kind == "tsv" else ",").join(row) + "\n" for row in [names, *rows]).encode()
    path = write(tmp_path, name, data)
    if kind == "jsonl":
        assert refused(path) == f":1: '{twice}' occurs twice; keep one"
    else:
        assert refused(path) == f": two columns have the name '{twice}'; rename one of them"


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_that_are_not_utf_8(name: str, tmp_path: Path) -> None:
    kind = name.removesuffix(".gz")
    if kind == "parquet":
        offsets, values = pa.py_buffer(b"\0\0\0\0\1\0\0\0\5\0\0\0"), pa.py_buffer(b"acaf\xe9")
        wrong = pa.Array.from_buffers(pa.string(), 2, [None, offsets, values])
        table = pa.table({"uid": ["1", "2"], "label": ["x", "y"], "premise": wrong, "hypothesis": ["a", "b"]})
        pq.write_table(table, tmp_path / "plain")
        path = write(tmp_path, name, (tmp_path / "plain").read_bytes())
        assert refused(path) == ": row 2: not UTF-8 (unexpected end of data)"
        return
    path = write(tmp_path, name, content(kind, ROWS).replace(b"a dog", b"caf\xe9"))
    assert refused(path) == f":{2 if kind == 'jsonl' else 3}: not UTF-8 (invalid continuation byte)"


@pytest.mark.parametrize("name", LINES)
def test_utf_16_is_named(name: str, tmp_path: Path) -> None:
    data = content(name.removesuffix(".gz"), ROWS).decode().encode("utf-16")
    assert refused(write(tmp_path, name, data)) == ":1: not UTF-8 (it is UTF-16; save it as UTF-8)"


@pytest.mark.parametrize("name", ["tsv", "csv"])
def test_a_file_whose_lines_end_with_carriage_returns_alone(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content(name, ROWS, "\r"))
    for read in (lambda: read_rows(path, TASK), lambda: list(read_inputs(str(path), [TASK]))):
        with pytest.raises(UserError, match=rf"{path}.*: lines end with a carriage return alone"):
            read()


@pytest.mark.parametrize("name", ["tsv", "csv", "csv-quoted", "jsonl", "jsonl.gz", "parquet"])
def test_a_row_without_end_is_refused_before_all_of_it_is_read(name: str, tmp_path: Path) -> None:
    name, _, quoted = name.partition("-")
    text = "a" * (LONGEST_ROW + 1)
    rows = [*ROWS, ("3", "x", f'"{text}' if quoted else text, "b")]
    message = refused(write(tmp_path, name, rows))
    assert f"the row has more than {LONGEST_ROW:,} bytes" in message and len(message) < 200


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_or_a_pipe_in_place_of_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"t_train.{name}"
    path.mkdir()
    assert "cannot be read (Is a directory)" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert refused(path) == ": is a pipe, not a file; write what it gives into a file"


def test_rows_to_predict_may_come_through_a_pipe_of_the_shell(tmp_path: Path) -> None:
    end, begin = os.pipe()
    os.write(begin, content("tsv", ROWS))
    os.close(begin)
    rows = list(read_inputs(f"/dev/fd/{end}", [TASK]))
    os.close(end)
    assert [row.texts(TASK)["premise"] for row in rows] == ["a cat", "a dog"]
