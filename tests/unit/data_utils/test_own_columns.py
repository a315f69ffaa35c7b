"""Files with columns of any name: ``columns`` and ``files`` of a task file, and rows without a uid."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import MissingRows, UserError
from data_utils.inputs import matching, read_inputs, readings
from data_utils.python_rows import rows_from_python
from data_utils.rows import as_in_files, find_rows, read_records, read_rows, write_rows
from data_utils.task_def import TaskDef, load_task_defs

KINDS = ("tsv", "csv", "jsonl", "parquet")
TEXTS = ["It is  good,\n really", 'A "bad" one', "ö  ‏ü "]


def task(folder: Path, definition: str, name: str = "t") -> TaskDef:
    (folder / "tasks.yml").write_text(f"{name}: {{{definition}}}\n", encoding="utf-8")
    return load_task_defs(folder / "tasks.yml")[name]


SINGLE = "task_type: classification, data_format: single, labels: [bad, good]"
REVIEWS = f"{SINGLE}, columns: {{premise: Review Text, label: Sentiment}}"


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the records in the format that the name says."""
    kind, columns = path.name.removesuffix(".gz").rpartition(".")[2], list(records[0])
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(records)), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *(record.values() for record in records)])
    else:
        rows = [columns, *(record.values() for record in records)]
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_names_with_spaces_in_every_format(kind: str, end: str, tmp_path: Path) -> None:
    texts = [text.replace("\n", " ") if kind == "tsv" else text for text in TEXTS]
    records = [
        {"No": 7 + number, "Sentiment": ["good", "bad"][number % 2], "Review Text": text, "label": "x"}
        for number, text in enumerate(texts)
    ]
    path = write(tmp_path / f"t_train.{kind}{end}", records)
    rows = read_rows(path, task(tmp_path, REVIEWS))
    assert (rows.first, rows.label, rows.uid) == (texts, [1, 0, 1], ["1", "2", "3"])
    assert list(rows.extra) == ["No"]  # the column label is not read, because the task file names another
    named = task(tmp_path, REVIEWS.replace("{premise", '{uid: "No", premise'))
    assert read_rows(path, named).uid == ["7", "8", "9"]
    _, found = matching(read_inputs(str(path), [named]), [named])
    assert [(row.uid(named), row.texts(named)["premise"]) for row in found] == list(zip("789", texts, strict=True))


def test_every_kind_of_column_is_named(tmp_path: Path) -> None:
    columns = "columns: {premise: Q, choice1: A, choice2: B, choice3: C, label: Right one}"
    choices = task(tmp_path, f"task_type: multiple_choice, data_format: choices, {columns}")
    record = {"Q": "why", "A": "x", "B": "y", "C": "z", "Right one": "3"}
    for kind in KINDS:
        rows = read_rows(write(tmp_path / f"c.{kind}", [record]), choices)
        assert (rows.first, rows.choices, rows.label) == (["why"], [["x", "y", "z"]], [2])
    listed = task(
        tmp_path, "task_type: multiple_choice, data_format: choices, columns: {premise: Q, choices: Options, label: N}"
    )
    answers = {"Q": "why", "Options": json.dumps(["x", "y z"]), "N": "2"}
    for kind in KINDS:
        path = write(tmp_path / f"l.{kind}", [answers])
        assert read_rows(path, listed).choices == [["x", "y z"]]
        (row,) = read_inputs(str(path), [listed])
        assert row.texts(listed) == {"premise": "why", "choice1": "x", "choice2": "y z"}
    words = task(
        tmp_path,
        "task_type: sequence_labelling, data_format: words, labels: [O, B-X], columns: {words: tokens, label: ner}",
    )
    for kind in ("jsonl", "parquet"):
        rows = read_rows(write(tmp_path / f"w.{kind}", [{"tokens": ["a", "b"], "ner": ["O", "B-X"]}]), words)
        assert (rows.first, rows.label) == (["a b"], [[0, 1]])


def test_two_names_may_be_swapped(tmp_path: Path) -> None:
    pair = task(
        tmp_path,
        "task_type: regression, data_format: pair, columns: {premise: hypothesis, hypothesis: premise, label: s}",
    )
    rows = read_rows(write(tmp_path / "p.csv", [{"premise": "a", "hypothesis": "b", "s": "1.5"}]), pair)
    assert (rows.first, rows.second, rows.label) == (["b"], ["a"], [1.5])


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_column_is_one_line_with_the_closest_name(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"t_dev.{kind}", [{"review text": "a", "premise": "b", "Sentiment": "good"}])
    with pytest.raises(UserError) as error:
        read_rows(path, task(tmp_path, REVIEWS))
    location = f"{path}:1" if kind == "jsonl" else f"{path}"
    assert str(error.value) == (
        f"{location}: no column 'Review Text' (columns.premise of task t; the file has review text, premise, "
        "Sentiment), did you mean 'review text'?"
    )
    with pytest.raises(UserError, match=r"no column 'Review Text' .columns.premise of task t; .* 'review text'"):
        matching(read_inputs(str(path), [reviews := task(tmp_path, REVIEWS)]), [reviews])


def test_a_message_is_one_line_whatever_the_names_are(tmp_path: Path) -> None:
    path = write(tmp_path / "t_dev.csv", [{"Review\nText": "a", "Sentiment": "good"}])
    with pytest.raises(UserError) as error:
        read_rows(path, task(tmp_path, REVIEWS))
    assert str(error.value).endswith(r"the file has Review\nText, Sentiment), did you mean 'Review\nText'?")


def test_other_separators_are_named(tmp_path: Path) -> None:
    (tmp_path / "t_dev.csv").write_text("Review Text;Sentiment\nfine;good\n")
    with pytest.raises(UserError, match=r"t_dev\.csv.*: has semicolons between its columns; save it as"):
        read_rows(tmp_path / "t_dev.csv", task(tmp_path, REVIEWS))
    with pytest.raises(UserError, match=r"t_dev\.csv.*: has semicolons between its columns; save it as"):
        matching(read_inputs(str(tmp_path / "t_dev.csv"), [reviews := task(tmp_path, REVIEWS)]), [reviews])


def test_a_header_that_is_almost_right_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("Reviw Text\nfine\n")
    with pytest.raises(UserError, match=r"t\.tsv:1: no column 'Review Text' .*did you mean 'Reviw Text'"):
        read_inputs(str(tmp_path / "t.tsv"), readings(task(tmp_path, REVIEWS)))
    (tmp_path / "t.txt").write_text("fine\nReviw Text\n")
    assert len(list(read_inputs(str(tmp_path / "t.txt"), readings(task(tmp_path, REVIEWS))))) == 2


def test_the_column_of_labels_may_lack_in_a_test_file_alone(tmp_path: Path) -> None:
    path, reviews = write(tmp_path / "t_test.csv", [{"Review Text": "a"}]), task(tmp_path, REVIEWS)
    rows = read_rows(path, reviews, test=True)
    assert rows.label is None
    assert rows.notice == f"{path}: no column 'Sentiment' (columns.label of task t), so its rows are unlabelled"
    with pytest.raises(UserError, match="no column 'Sentiment'"):
        read_rows(path, reviews)


def test_rows_to_predict_may_have_our_names_too(tmp_path: Path) -> None:
    reviews = task(tmp_path, REVIEWS)
    for column in ("Review Text", "premise"):
        path = write(tmp_path / "new.csv", [{"n": "1", column: "a b"}])
        (reading, *_), rows = matching(read_inputs(str(path), readings(reviews)), readings(reviews))
        assert [row.texts(reading) for row in rows] == [{"premise": "a b"}]
        rows_of_python = rows_from_python([{column: "a b"}], reviews)
        assert rows_of_python is not None and rows_of_python.first == ["a b"]
    labelled = rows_from_python([{"Review Text": "a", "Sentiment": "good"}], reviews, labelled=True)
    assert labelled is not None and labelled.label == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "{text: Review}",
            "columns: the task reads no 'text' (it reads uid, label, premise, soft_label, question_id); w",
        ),
        ("{lable: Stars}", "did you mean 'label'?"),
        ("{premise: A, label: A}", "columns: premise and label are both 'A'; name two columns"),
        ("{uid: No}", 'columns: YAML reads No as a truth value; quote it: "No"'),
        ("{premise: [a]}", "columns: write a text, not a list"),
        ("Review", "columns: Input should be a valid dictionary"),
        ("{}, files: {dv: x.csv}", "files: 'dv' is not one of its splits, did you mean 'dev'?"),
    ],
)
def test_a_wrong_mapping_is_refused(columns: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        task(tmp_path, f"{SINGLE}, columns: {columns}")
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path}/tasks.yml: t: ")


@pytest.mark.parametrize("file", ["../dev.csv", "sub/../../dev.csv", "/dev.csv"])
def test_a_file_outside_the_folder_of_rows_is_refused(file: str, tmp_path: Path) -> None:
    """It would be read for every folder of rows, also for one that is given later."""
    with pytest.raises(UserError, match=r"t: files: '.*dev.csv' is outside the folder of rows; set data.dir to a fold"):
        task(tmp_path, f"{SINGLE}, files: {{dev: {file}}}")
    assert task(tmp_path, f"{SINGLE}, files: {{dev: ..sub/dev.csv}}").files == {"dev": "..sub/dev.csv"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_rows_need_not_have_may_lack_where_it_is_named(kind: str, tmp_path: Path) -> None:
    columns = "columns: {premise: Q, choice1: A, choice3: C, soft_label: teacher, question_id: of}"
    choices = task(tmp_path, f"task_type: multiple_choice, data_format: choices, {columns}")
    record = {"Q": "why", "A": "x", "choice2": "y", "label": "2"}
    rows = read_rows(write(tmp_path / f"c.{kind}", [record]), choices)
    assert (rows.choices, rows.label, rows.soft) == ([["x", "y"]], [1], None)
    with pytest.raises(UserError, match="no column 'A'"):
        read_rows(write(tmp_path / f"c.{kind}", [{"Q": "why", "C": "x", "choice2": "y", "label": "2"}]), choices)


def test_a_later_row_is_told_by_the_names_of_its_file(tmp_path: Path) -> None:
    reviews = task(tmp_path, f"{SINGLE}, columns: {{premise: text}}")
    for second, message in (
        ('{"label": "bad"}', ":2: other columns than the rows before .text missing."),
        ('{"label": "bad", "text": ["a"]}', ":2: text: is a list"),
    ):
        (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "good"}\n' + second + "\n")
        with pytest.raises(UserError, match=message):
            read_rows(tmp_path / "t.jsonl", reviews)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_uid_is_named_by_its_number(kind: str, tmp_path: Path) -> None:
    records = [{"premise": f"text {number}", "label": "good"} for number in range(12)]
    rows = read_rows(write(tmp_path / f"t.{kind}", records), task(tmp_path, SINGLE))
    assert rows.uid == [str(number) for number in range(1, 13)]


def test_only_some_rows_with_a_uid_are_refused(tmp_path: Path) -> None:
    first, second = '{"uid": "a", "premise": "x"}\n', '{"premise": "x"}\n'
    for content, message in ((first + second, ":2: other columns .*uid missing"), (second + first, ":2: has a uid, ")):
        (tmp_path / "t.jsonl").write_text(content)
        with pytest.raises(UserError, match=message):
            read_rows(tmp_path / "t.jsonl", task(tmp_path, SINGLE))


def test_files_of_any_name(tmp_path: Path) -> None:
    reviews = task(tmp_path, f"{REVIEWS}, splits: [train, dev], files: {{train: my reviews.csv.gz}}")
    with pytest.raises(MissingRows, match=r"my reviews.csv.gz: no such file .files.train of task t"):
        find_rows(tmp_path, reviews, "train")
    path = write(tmp_path / "my reviews.csv.gz", [{"Review Text": "a", "Sentiment": "bad"}])
    assert find_rows(tmp_path, reviews, "train") == path
    with pytest.raises(MissingRows, match=r"t_dev.tsv: no such file .nor"):
        find_rows(tmp_path, reviews, "dev")
    (tmp_path / "t_train.tsv").touch()
    with pytest.raises(UserError, match=r"t_train.tsv and my reviews.csv.gz both exist; keep one"):
        find_rows(tmp_path, reviews, "train")


@pytest.mark.parametrize(
    "definition",
    [
        REVIEWS,
        "task_type: multiple_choice, data_format: choices, columns: {choices: Options, premise: Q, uid: Key}",
        "task_type: multiple_choice, data_format: choices, columns: {choice1: A, choice2: B, premise: Q}",
    ],
)
def test_rows_are_written_as_the_task_reads_them(definition: str, tmp_path: Path) -> None:
    known = task(tmp_path, definition)
    record = {
        "Review Text": "a b",
        "Sentiment": "bad",
        "Q": "q",
        "Key": "k",
        "Options": '["x", "y"]',
        "A": "x",
        "B": "y",
    }
    source = write(tmp_path / "in.csv", [record])
    ((_, row),) = read_records(source, known)
    again = as_in_files(row, known)
    write_rows(tmp_path / "out.tsv", [again], list(again))
    ((_, back),) = read_records(tmp_path / "out.tsv", known)
    assert {name: back[name] for name in row} == row
