"""A row is the same row in every format, and a value that cannot be read is named with its row and column."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.cells import cells
from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.python_rows import SOURCE, rows_from_python
from data_utils.rows import Rows, collect_rows, read_records, read_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from tests.tiny import tiny_tokenizer

TEXTS = ("the cat", "naïve café", '"quoted"', "['a', 'b']", "[1]", "null", "1", "0.50", "true", "句子", "", "NaN")
WORDS = ("the", "1", "['a']", "true", '"', "é")


def task(task_type: str, data_format: str, *labels: str, **fields: Any) -> TaskDef:
    defaults = TASK_TYPES[task_type].defaults
    return TaskDef(name="t", task_type=task_type, data_format=data_format, labels=labels, **{**defaults, **fields})


CLASSES = task("classification", "pair", "0", "1", "true")
TAGS = task("sequence_labelling", "words", "O", "B-X", "7", metrics=("accuracy",))
SETS = task("multi_label", "single", "a, b", "1", "true")
SCORES = task("regression", "pair")
CHOICES = task("multiple_choice", "choices")
CLOZE = task("cloze", "cloze")
SPANS = task("span", "question_context", no_answer=True)
MASKED = task("masked_lm", "single")


def native_row(rng: random.Random, kind: TaskDef) -> tuple[dict[str, Any], dict[str, str]]:
    """A random row, first with Python's values, then as the texts of a TSV."""
    first, second = rng.choice(TEXTS), rng.choice(TEXTS)
    match kind.task_type:
        case "classification" | "ordinal":
            label, text = rng.choice([("0", "0"), (1, "1"), (True, "true")])
            return {"label": label, "premise": first, "hypothesis": second}, {
                "label": text,
                "premise": first,
                "hypothesis": second,
            }
        case "regression":
            label, text = rng.choice([(1, "1"), (2.5, "2.5"), (-1e-7, "-1e-07"), ("0.50", "0.50")])
            texts = {"premise": first, "hypothesis": second}
            return {"label": label, **texts}, {"label": text, **texts}
        case "sequence_labelling":
            words = [rng.choice(WORDS) for _ in range(rng.randint(1, 4))]
            labels = [rng.choice(["O", "B-X", 7]) for _ in words]
            joined = {"label": " ".join(f"{label}" for label in labels), "words": " ".join(words)}
            return {"label": labels, "words": words}, joined
        case "multi_label":
            chosen = rng.sample([("a, b", "a, b"), (1, "1"), (True, "true")], rng.randint(0, 3))
            listed = json.dumps([text for _, text in chosen])
            return {"label": [label for label, _ in chosen], "premise": first}, {"label": listed, "premise": first}
        case "multiple_choice" | "cloze":
            choices = [rng.choice(TEXTS[:-2]) for _ in range(rng.randint(2, 5))]
            numbered = {f"choice{number}": text for number, text in enumerate([*choices, *[""] * 5][:5], 1)}
            right = rng.sample(range(1, len(choices) + 1), rng.randint(1, 2))
            texts = {"premise": first}
            if kind.task_type == "cloze":
                texts["query"] = "is @placeholder"
                return {"label": right, **texts, "choices": choices}, {
                    "label": " ".join(f"{number}" for number in right),
                    **texts,
                    **numbered,
                }
            return {"label": right[0], **texts, "choices": choices}, {"label": f"{right[0]}", **texts, **numbered}
        case "span":
            context = "the naïve cat"
            answers = rng.choice([[], [[0, "the"]], [[4, "naïve"], [10, "cat"]]])
            texts = {"question": first, "context": context}
            return {"label": answers, **texts}, {"label": json.dumps(answers, ensure_ascii=False), **texts}
        case _:
            label = ["not", {"read": 1}]
            return {"label": label, "premise": first}, {"label": json.dumps(label), "premise": first}


def write_tsv(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [list(rows[0]), *(row.values() for row in rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue(), encoding="utf-8")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def for_parquet(row: dict[str, Any], kind: TaskDef) -> dict[str, Any]:
    """A column of Parquet has one type: labels of several types become texts, answers become records."""
    label = row["label"]
    if kind.task_type == "span":
        return {**row, "label": [{"start": start, "text": text} for start, text in label]}
    if kind.task_type in ("sequence_labelling", "multi_label"):
        return {**row, "label": [item if isinstance(item, str) else json.dumps(item) for item in label]}
    if kind.task_type in ("multiple_choice", "cloze"):
        return row
    return {**row, "label": label if isinstance(label, str) else json.dumps(label)}


def shuffled_formats(kind: TaskDef, seed: int, folder: Path) -> Iterator[Rows]:
    """The same random rows, read from each format."""
    rng = random.Random(seed)
    found_native, found_texts = zip(*(native_row(rng, kind) for _ in range(12)), strict=True)
    native, texts = ([{"uid": f"r{n}", **row} for n, row in enumerate(rows)] for rows in (found_native, found_texts))
    formats: dict[str, tuple[Callable[[Path, Any], None], list[dict[str, Any]]]] = {
        "a.tsv": (write_tsv, texts),
        "a.csv": (write_csv, texts),
        "a.jsonl": (write_jsonl, native),
        "b.jsonl": (write_jsonl, texts),
        "a.parquet": (write_parquet, [for_parquet(row, kind) for row in native]),
        "b.parquet": (write_parquet, texts),
    }
    for name, (write, rows) in formats.items():
        write(folder / name, rows)
        yield read_rows(folder / name, kind)
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        yield read_rows(folder / f"{name}.gz", kind)
    for rows in (native, texts):
        found = rows_from_python(rows, kind, labelled=True)
        assert found is not None
        yield found


KINDS = [CLASSES, task("ordinal", "pair", "0", "1", "true"), TAGS, SETS, SCORES, CHOICES, CLOZE, SPANS, MASKED]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.task_type)
def test_a_row_is_the_same_in_every_format(kind: TaskDef, tmp_path: Path) -> None:
    assert {kind.task_type for kind in KINDS} == set(TASK_TYPES)
    for seed in range(5):
        first, *others = (replace(rows, path=Path(), locations=[]) for rows in shuffled_formats(kind, seed, tmp_path))
        assert len(first) == 12 and (first.label is not None or kind is MASKED)
        for other in others:
            assert other == first


def test_soft_labels_are_json_values_or_their_text(tmp_path: Path) -> None:
    row = {"uid": "1", "label": "1", "premise": "a", "hypothesis": "b", "soft_label": {"0": 0.25, "1": 0.75, "true": 0}}
    write_jsonl(tmp_path / "a.jsonl", [row])
    write_parquet(tmp_path / "a.parquet", [row])
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
    write_tsv(tmp_path / "a.tsv", [texts])
    for path in tmp_path.iterdir():
        soft = read_rows(path, CLASSES).soft
        assert soft is not None and soft[0].tolist() == [[0.25, 0.75, 0.0]]


def checked(kind: TaskDef, **row: Any) -> Rows:
    return collect_rows(SOURCE, with_texts(kind, {"uid": "1", **row}), kind)


def with_texts(kind: TaskDef, row: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    yield "f:1", cells("f:1", row, kind)


PAIR = {"premise": "a", "hypothesis": "b"}


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        (CLASSES, {**PAIR, "label": ["1"]}, "f:1: label: is a list; write one label as a text"),
        (CLASSES, {**PAIR, "label": {"1": 1}}, "f:1: label: is an object; write one label as a text"),
        (CLASSES, {**PAIR, "label": False}, "f:1: label 'false' is not one of 0, 1, true"),
        (CLASSES, {**PAIR, "label": 1.0}, "f:1: label '1.0' is not one of 0, 1, true"),
        (CLASSES, {**PAIR, "label": float("nan")}, "f:1: label: is NaN, as for a missing value; write one label"),
        (CLASSES, {"premise": ["a", "b"], "hypothesis": "b", "label": "1"}, "f:1: premise: is a list; write one text"),
        (CLASSES, {**PAIR, "uid": [1], "label": "1"}, "f:1: uid: is a list; write one text"),
        (CLASSES, {**PAIR, "question_id": {"a": 1}, "label": "1"}, "f:1: question_id: is an object; write one text"),
        (CLASSES, {"premise": float("nan"), "hypothesis": "b"}, "f:1: premise: is NaN, as for a missing value"),
        (CLASSES, {"premise": b"a", "hypothesis": "b"}, "f:1: premise: is of type bytes; write one text"),
        (CLASSES, {**PAIR, "image": b"a"}, "f:1: image: is of type bytes; write it as a text, or remove the column"),
        (SCORES, {**PAIR, "label": True}, "f:1: label 'true' is not a number"),
        (SCORES, {**PAIR, "label": [1.0]}, "f:1: label: is a list; write a number"),
        (SCORES, {**PAIR, "label": "1_000"}, "f:1: label '1_000' is not a number"),
        (TAGS, {"words": ["a b", "c"]}, "f:1: words: 'a b' has a space; give each word by itself"),
        (TAGS, {"words": ["a", ""]}, "f:1: words: word 2 of the list is empty"),
        (TAGS, {"words": ["a", ["b"]]}, "f:1: words: is a list; write a text for each word"),
        (TAGS, {"words": []}, "f:1: words: no words"),
        (TAGS, {"words": {"a": 1}}, "f:1: words: is an object; write the words"),
        (TAGS, {"words": ["a", "b"], "label": ["O"]}, "f:1: 1 labels for 2 words"),
        (TAGS, {"words": ["a", "b"], "label": []}, "f:1: label: the list is empty; write a list with one label for"),
        (TAGS, {"words": ["a"], "label": [None]}, "f:1: label: label 1 of the list is empty"),
        (TAGS, {"words": ["a"], "label": {"O": 1}}, "f:1: label: is an object; write a list with one label for each"),
        (SETS, {"premise": "a", "label": ["1", "x"]}, "f:1: label 'x' is not one of a, b, 1, true"),
        (SETS, {"premise": "a", "label": ["1", ["x"]]}, "f:1: label: is a list; write a list of labels"),
        (CHOICES, {"premise": "a", "choices": ["b"]}, "f:1: 1 choices; a row has at least two choices"),
        (CHOICES, {"premise": "a", "choices": ["b", "c", ""]}, "f:1: choices: choice 3 is empty; leave it out"),
        (CHOICES, {"premise": "a", "choices": "b, c"}, 'f:1: choices: write a list of texts, ["a", "b"]; or give'),
        (CHOICES, {"premise": "a", "choices": ["b", "c"], "choice1": "b"}, "f:1: has the columns 'choices' and"),
        (CHOICES, {"premise": "a", "choices": ["b", "c"], "label": [2]}, "f:1: label: is a list; write the number of"),
        (CHOICES, {"premise": "a", "choices": ["b", "c"], "label": 2.0}, "f:1: label '2.0' is not the number of a"),
        (
            CLOZE,
            {"premise": "a", "query": "@placeholder", "choices": ["b", "c"], "label": []},
            "f:1: label: the list is empty; write a list of the numbers of the right choices, or null in all rows",
        ),
        (
            SPANS,
            {"question": "q", "context": "a", "label": {"text": ["a"]}},
            "f:1: label: is an object; write a list of",
        ),
        (SPANS, {"question": "q", "context": "a", "label": [[0.0, "a"]]}, "f:1: label: write the answers as JSON"),
        (SPANS, {"question": "q", "context": "a", "label": ["a"]}, "f:1: label: write the answers as JSON"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(kind: TaskDef, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        checked(kind, **row)
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


def test_numbers_of_json_are_spelled_as_in_the_file(tmp_path: Path) -> None:
    graded = task("ordinal", "pair", "0.50", "1.0", "1e3")
    lines = [f'{{"uid": 1.50, "label": {label}, "premise": 2, "hypothesis": true}}' for label in graded.labels]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = read_rows(tmp_path / "a.jsonl", graded)
    assert rows.label == [0, 1, 2] and rows.uid == ["1.50"] * 3
    assert rows.first[0] == "2" and rows.second == ["true"] * 3


def test_a_json_row_may_lack_further_choices_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    two = {"uid": "1", "label": 1, "premise": "a", "choice1": "b", "choice2": "c"}
    write_jsonl(path, [two, {**two, "choice3": "d"}, two])
    assert read_rows(path, CHOICES).choices == [["b", "c"], ["b", "c", "d"], ["b", "c"]]
    assert [len(record) for _, record in read_records(path, CHOICES)] == [5, 6, 5]
    write_jsonl(path, [two, {**two, "genre": "d"}])
    with pytest.raises(UserError, match=r"a\.jsonl:2: other columns than the rows before \(genre added\)"):
        read_rows(path, CHOICES)


def test_python_rows_may_hold_arrays_and_lists_of_choices() -> None:
    rows = rows_from_python([{"words": np.array(["a", "b"]), "label": np.array(["O", "B-X"])}], TAGS, labelled=True)
    assert rows is not None and rows.first == ["a b"] and rows.label == [[0, 1]]
    rows = rows_from_python([{"premise": "a", "choices": ["b", "c"], "label": np.int64(2)}], CHOICES, labelled=True)
    assert rows is not None and rows.choices == [["b", "c"]] and rows.label == [1]


def test_a_dev_file_with_lists_is_labelled(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path / "encoder")
    write_jsonl(tmp_path / "t_dev.jsonl", [{"uid": 1, "label": ["O", "B-X"], "words": ["the", "cat"]}])
    tokenizer = load_tokenizer(f"{tmp_path / 'encoder'}")
    split = prepare(TAGS, "dev", data_dir=tmp_path, cache_dir=tmp_path / "cache", tokenizer=tokenizer, max_length=16)
    assert split.labels is not None and split.labels.tolist() == [0, 1]
