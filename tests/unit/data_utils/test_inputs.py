"""Rows to predict: every format gives the same rows, a blank row is a row, and messages name the file and the line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import EmptyRow, UserError
from data_utils.inputs import Input, matching, read_inputs, readings, windows
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS, TASK_TYPES

PAIR = DATA_FORMATS["pair"]
TEXTS = [("a cat", "a dog"), ('a "red" bird, small', "the man"), ("ö ‏ü", "x")]


def task(name: str = "pair", columns: dict[str, str] | None = None) -> TaskDef:
    kind = {"words": "sequence_labelling", "choices": "multiple_choice"}.get(name, "classification")
    labels = {} if name == "choices" else {"labels": ("x", "y")}
    return TaskDef(
        name="t", task_type=kind, columns=columns or {}, **{**TASK_TYPES[kind].defaults, "data_format": name, **labels}
    )


TASK = task()


def write(path: Path, texts: Sequence[Sequence[str]], columns: Sequence[str] = PAIR) -> Path:
    """Writes the texts in the format that the name says; ``txt`` has no names."""
    kind = path.name.split(".")[1]
    if kind == "parquet":
        pq.write_table(pa.table(dict(zip(columns, zip(*texts, strict=True), strict=True))), path)
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([columns, *texts])
    elif kind == "jsonl":
        records = (dict(zip(columns, row, strict=True)) for row in texts)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        rows = [*([columns] if kind == "tsv" else []), *texts]
        path.write_text("\ufeff" + "".join("\t".join(row) + "\r\n" for row in rows), newline="")
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def found(path: Path, asked: TaskDef = TASK) -> list[tuple[str, ...]]:
    return [tuple(row.texts(asked).values()) for row in read_inputs(str(path), [asked])]


@pytest.mark.parametrize("kind", ["txt", "tsv", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_every_format_holds_the_same_rows(kind: str, end: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"rows.{kind}{end}", TEXTS)
    assert found(path) == TEXTS
    (_, second, _) = read_inputs(str(path), [TASK])
    lines = {"txt": f"{path}:2", "tsv": f"{path}:3", "csv": f"{path}:3", "jsonl": f"{path}:2"}
    assert second.location == lines.get(kind, f"{path}: row 2") and second.number == 2
    assert second.uid(task()) == "2"


def test_a_uid_is_kept_and_other_columns_are_ignored(tmp_path: Path) -> None:
    columns = ("uid", "note", "hypothesis", "label", "premise")
    path = write(tmp_path / "rows.csv", [("q7", "n", "a dog", "?", "a cat"), ("", "n", "b", "?", "c")], columns)
    first, second = read_inputs(str(path), [TASK])
    assert first.texts(TASK) == {"hypothesis": "a dog", "premise": "a cat"}
    assert first.uid(task()) == "q7" and second.uid(task()) == "2"
    (tmp_path / "rows.jsonl").write_text('{"uid": 7, "premise": 1.50, "hypothesis": "b"}\n')
    (row,) = read_inputs(str(tmp_path / "rows.jsonl"), [TASK])
    assert row.uid(TASK) == "7" and row.texts(TASK)["premise"] == "1.50"


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        ("rows.txt", "a\tb\n\na\n \tb\na\t\nc\td\n", {2: "the line is empty", 3: "hypothesis is missing"}),
        ("rows.tsv", "premise\thypothesis\na\tb\n\na\n \tb\na\t\nc\td\n", {3: "the line is empty", 4: "hypothesis is"}),
        ("rows.jsonl", '{"premise": "a", "hypothesis": null}\n\n', {1: "hypothesis is empty", 2: "the line is empty"}),
        ("rows.csv", "premise,hypothesis\na\n,b\n", {2: "hypothesis is missing", 3: "premise is empty"}),
    ],
)
def test_empty_rows_stay_in_their_place(name: str, content: str, reasons: dict[int, str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    rows = list(read_inputs(str(path), [TASK]))
    header = name.endswith((".tsv", ".csv"))
    assert len(rows) == content.count("\n") - header
    errors = {}
    for row in rows:
        try:
            assert all(text.strip() for text in row.texts(TASK).values())
        except EmptyRow as error:
            errors[row.location] = str(error)
    for line, reason in reasons.items():
        assert f"{path}:{line}: {reason}" in errors[f"{path}:{line}"]
    if len(rows) == 6:
        assert len(errors) == 4


def test_words_and_choices(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("a b\na  b\n a\n")
    words, choices = task("words"), task("choices")
    good, *bad = read_inputs(str(path), [words])
    assert good.texts(words) == {"words": "a b"}
    for row in bad:
        with pytest.raises(EmptyRow, match=f"{row.location}: words: two spaces"):
            row.texts(words)
    path.write_text("p\ta\tb\tc\td\np\ta\np\ta\t\tc\n")
    more, fewer, gap = read_inputs(str(path), [choices])
    assert list(more.texts(choices).values()) == ["p", "a", "b", "c", "d"]
    for row in (fewer, gap):
        with pytest.raises(EmptyRow, match=row.location):
            row.texts(choices)
    (tmp_path / "rows.jsonl").write_text('{"premise": "p", "choices": ["a", "b", "c"]}\n')
    (listed,) = read_inputs(str(tmp_path / "rows.jsonl"), [choices])
    assert listed.fits(choices) and listed.texts(choices)["choice3"] == "c"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", "a\tb\na\tb\tc\n", ":2: 3 tab-separated fields, the task takes 2"),
        ("rows.txt", "a\n", ":1: 1 tab-separated field, the task takes 2"),
        ("rows.txt", "", ": the file is empty; write one row per line"),
        ("rows.txt", "sentence1\tsentence2\n", ":1: looks like column names"),
        ("rows.tsv", "premise\thypothesis\na\tb\tc\n", ":2: 3 columns, expected 2"),
        ("rows.csv", "premise,hypothsis\na,b\n", "no column 'hypothesis'"),
        ("rows.csv", "premise;hypothesis\na;b\n", "has semicolons between its columns; save it as .tsv"),
        ("rows.csv", "premise,hypothesis\na,b,c\n", ":2: expected 2 columns"),
        ("rows.csv", 'premise,hypothesis\na,"b\n', "not CSV"),
        ("rows.jsonl", '{"premise": "a", "hypothesis": "b"}\n{"premise"\n', ":2: "),
        ("rows.jsonl", '{"premise": ["a"], "hypothesis": "b"}\n', ":1: premise: is a list"),
        ("rows.parquet", "no", ": not a Parquet file"),
        ("rows.tsv.gz", "no", ": the compressed file is damaged or cut off"),
        ("absent/rows.tsv", None, ": cannot be read"),
    ],
)
def test_what_is_refused_names_the_file_and_the_line(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        _, rows = matching(read_inputs(str(path), [TASK]), [TASK])
        for row in rows:
            row.texts(TASK)
    assert str(error.value).startswith(str(path)) and message in str(error.value) and "\n" not in str(error.value)
    assert not isinstance(error.value, EmptyRow)


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(b"a\tb\n\xff\tb\n")
    with pytest.raises(UserError, match=r"rows.txt:2: not UTF-8"):
        found(tmp_path / "rows.txt")


def test_a_header_is_recognised_by_any_format(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.tsv", [("a",)], ("premise",))
    formats = [TASK, task("single")]
    fitting, rows = matching(read_inputs(str(path), formats), formats)
    assert fitting == [task("single")] and [row.values for row in rows] == [{"premise": "a"}]


def test_leading_blank_rows_do_not_choose_the_format(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("\n\na\tb\n")
    formats = [task("single"), TASK]
    fitting, rows = matching(read_inputs(str(tmp_path / "rows.txt"), formats), formats)
    assert fitting == [TASK] and [row.is_blank for row in rows] == [True, True, False]


def test_only_a_window_is_read_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def stream() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield f"{number}\tb\r\n".encode()

    lines = stream()
    buffer = SimpleNamespace(readline=lambda _: next(lines, b""))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
    fitting, rows = matching(read_inputs("-", [TASK]), [TASK])
    parts = windows(rows, 7)
    assert fitting == [TASK] and len(read) == 1
    for count in (1, 2):
        part = next(parts)
        assert [row.location for row in part[-1:]] == [f"-:{7 * count}"] and len(read) == 7 * count
    assert [len(part) for part in parts] == [7] * 12 + [2]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_are_read_as_they_are_asked_for(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake at the end of a CSV file is seen at the end; a Parquet file is decoded in parts."""
    monkeypatch.setattr("data_utils.parquet.AT_ONCE", 10)
    path = write(tmp_path / f"rows.{kind}", [(f"{number}", "b") for number in range(35)])
    if kind == "csv":
        with path.open("a") as file:
            file.write("a,b,c\n")
    rows = read_inputs(str(path), [TASK])
    first: list[Input] = [next(rows) for _ in range(35)]
    assert [row.values["premise"] for row in first if not isinstance(row.values, list)] == [f"{n}" for n in range(35)]
    if kind == "csv":
        with pytest.raises(UserError, match=f"{path}:37: expected 2 columns"):
            next(rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "premise,hypothesis\na\nb,c\n"),
        ("rows.tsv", "premise\thypothesis\na\nb\tc\n"),
        ("rows.tsv", "premise\thypothesis\n\nb\tc\n"),
    ],
)
def test_the_header_chooses_the_format_and_not_the_first_row(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    formats = [TASK, task("single")]
    fitting, rows = matching(read_inputs(str(tmp_path / name), formats), formats)
    assert fitting == formats
    short, full = rows
    with pytest.raises(EmptyRow, match=f"{name}:2: (hypothesis is missing|the line is empty)"):
        short.texts(TASK)
    assert full.texts(TASK) == {"premise": "b", "hypothesis": "c"} and full.number == 2


def test_the_schema_chooses_the_format(tmp_path: Path) -> None:
    table = pa.table({"premise": ["a", "b"], "hypothesis": pa.array([None, "c"], pa.string())})
    pq.write_table(table, tmp_path / "rows.parquet")
    formats = [TASK, task("single")]
    fitting, _ = matching(read_inputs(str(tmp_path / "rows.parquet"), formats), formats)
    assert fitting == formats


@pytest.mark.parametrize("blank", ["\n", " \t \n\n"])
@pytest.mark.parametrize(("name", "separator"), [("rows.tsv", "\t"), ("rows.csv", ",")])
def test_the_header_is_the_first_line_that_is_not_blank(name: str, separator: str, blank: str, tmp_path: Path) -> None:
    content = f"{blank}premise{separator}hypothesis\na{separator}b\n"
    (tmp_path / name).write_text(content)
    (row,) = read_inputs(str(tmp_path / name), [TASK])
    assert row.values == {"premise": "a", "hypothesis": "b"} and row.number == 1
    assert row.location == f"{tmp_path / name}:{content.count(chr(10))}"


def test_a_line_of_spaces_is_blank(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(' \t\n{"premise": "a", "hypothesis": "b"}\n  \n')
    (tmp_path / "rows.txt").write_text(" \t\na\tb\n  \n")
    (tmp_path / "header.tsv").write_text("premise\thypothesis\n \t \na\tb\n")
    for name, blank in (("rows.jsonl", [1, 3]), ("rows.txt", [1, 3]), ("header.tsv", [1])):
        _, rows = matching(read_inputs(str(tmp_path / name), [TASK]), [TASK])
        found = list(rows)
        assert [row.number for row in found if row.is_blank] == blank
        for number in blank:
            with pytest.raises(EmptyRow, match="the line is empty"):
                found[number - 1].texts(TASK)


@pytest.mark.parametrize("end", ["tsv", "txt"])
@pytest.mark.parametrize(
    ("columns", "header"),
    [
        ({"label": "y"}, "sentence1\tsentence2"),
        ({"label": "y"}, "uid\tpremise"),
        ({"premise": "question", "hypothesis": "answer"}, "question\thypothesis"),
        ({"premise": "Title", "hypothesis": "Body"}, "uid\tTitle"),
        ({"premise": "Title"}, "id\tsentence"),
    ],
)
def test_names_of_columns_are_no_row_whatever_the_task_file_names(
    columns: dict[str, str], header: str, end: str, tmp_path: Path
) -> None:
    path, named = tmp_path / f"rows.{end}", task("pair", columns)
    path.write_text(f"{header}\na\tb\n")
    with pytest.raises(UserError, match=rf"^{path}:1: looks like column names.* .if it is a row, write a line with"):
        read_inputs(str(path), readings(named))
    path.write_text(f"a\tb\n{header}\n")
    assert len(list(read_inputs(str(path), readings(named)))) == 2


def test_a_text_that_is_almost_a_name_is_a_row_of_plain_text(tmp_path: Path) -> None:
    named = readings(task("single", {"premise": "text"}))
    for word in ("test", "next"):
        (tmp_path / "rows.txt").write_text(f"{word}\na cat\n")
        assert [row.values for row in read_inputs(str(tmp_path / "rows.txt"), named)] == [[word], ["a cat"]]
    for name, line in (("rows.txt", "TEXT "), ("rows.tsv", "txt")):
        (tmp_path / name).write_text(f"{line}\na cat\n")
        with pytest.raises(UserError, match=r":1: no column 'text' .* .if it is a row, write a line with the names ab"):
            read_inputs(str(tmp_path / name), named)


def test_a_column_of_any_name_in_plain_text(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a cat\na dog\n")
    named = task("single", {"premise": "text"})
    _, rows = matching(read_inputs(str(tmp_path / "rows.txt"), [named]), [named])
    assert [row.texts(named) for row in rows] == [{"premise": "a cat"}, {"premise": "a dog"}]


def test_a_standard_input_that_is_closed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed; give the rows"):
        read_inputs("-", [TASK])


def test_a_standard_input_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "file").open("w") as file, os.fdopen(os.dup(file.fileno()), encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(UserError, match=r"standard input: cannot be read \(Bad file descriptor"):
            read_inputs("-", [TASK])
