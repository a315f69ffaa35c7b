"""A line of column names is never taken for a row, and an error says which names are expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_utils.benchmarks.tables import open_table
from data_utils.errors import UserError
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES


def task(task_type: str, data_format: str, *labels: str) -> TaskDef:
    defaults = TASK_TYPES[task_type].defaults
    return TaskDef(name="t", task_type=task_type, data_format=data_format, labels=labels, **defaults)


SINGLE = task("classification", "single", "no", "yes")
PAIR = task("classification", "pair", "no", "yes")
TAGS = task("sequence_labelling", "words", "O", "B-X")
CHOICES = task("multiple_choice", "choices")
MASKED = task("masked_lm", "single")


def read(folder: Path, text: str, kind: TaskDef, name: str = "t.tsv") -> tuple[list[str], list[str]]:
    (folder / name).write_text(text, encoding="utf-8")
    rows = read_rows(folder / name, kind)
    return rows.uid, rows.first


@pytest.mark.parametrize(
    ("kind", "header", "words"),
    [
        (
            MASKED,
            "id\tlabel\ttext",
            "uid, label, premise: rename 'id' to 'uid', rename 'text' to 'premise', or name them in the task file with "
            "columns (if it is a row",
        ),
        (MASKED, "UID\tlabel\tsentence", "rename 'UID' to 'uid', rename 'sentence'"),
        (MASKED, "\tid\ttext", "rename 'id' to 'uid', add 'label'"),
        (SINGLE, "idx\tsentence\tlabel", "rename 'idx' to 'uid', rename 'sentence' to 'premise'"),
        (SINGLE, "guid\tlabel\ttext", "rename 'guid' to 'uid', rename 'text' to 'premise'"),
        (SINGLE, "label\ttext\tsource", "label, premise: rename 'text' to 'premise'"),
        (PAIR, "index\tgold_label\tsentence1\tsentence2", "rename 'gold_label' to 'label', rename 'sentence1' to"),
        (PAIR, "idx\tlabel\tquestion\tsentence", "rename 'question' to 'premise', rename 'sentence' to 'hypothesis'"),
        (TAGS, "id\ttags\ttokens", "rename 'id' to 'uid', rename 'tags' to 'label', rename 'tokens' to 'words'"),
        (CHOICES, "id\tlabel\tquestion\tchoice1\tchoice2", "rename 'question' to 'premise'"),
    ],
)
def test_names_of_other_data_sets_are_no_row(kind: TaskDef, header: str, words: str, tmp_path: Path) -> None:
    row = "\t".join("x" for _ in header.split("\t"))
    with pytest.raises(UserError) as error:
        read(tmp_path, f"{header}\n{row}\n", kind)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/t.tsv:1: looks like column names, but the names have to be uid, label, ")
    assert words in message and "\n" not in message


def test_columns_may_stand_in_any_order_and_after_blank_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "label\tuid\tpremise\nyes\ta\tx\n", SINGLE) == (["a"], ["x"])
    assert read(tmp_path, "\n\nuid\tlabel\tpremise\na\tyes\tx\n", SINGLE) == (["a"], ["x"])
    assert read(tmp_path, "\nuid\tlabel\tpremise\na\t\tx\n", MASKED) == (["a"], ["x"])
    (tmp_path / "foreign.tsv").write_text("\nindex\tsentence\n0\tx\n")
    assert list(open_table(tmp_path / "foreign.tsv", marker="sentence")) == [{"index": "0", "sentence": "x"}]


def test_old_rows_that_use_such_words_are_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "1\tyes\ttext\n2\tno\tlabel\n", SINGLE) == (["1", "2"], ["text", "label"])
    assert read(tmp_path, "id\tyes\tthe text\n", SINGLE) == (["id"], ["the text"])


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv"])
def test_missing_columns_under_another_name(name: str, tmp_path: Path) -> None:
    def written(*columns: str) -> str:
        if name == "t.jsonl":
            return json.dumps(dict.fromkeys(columns, "yes"))
        mark = "," if name == "t.csv" else "\t"
        return mark.join(columns) + "\n" + mark.join("yes" for _ in columns) + "\n"

    for kind, columns, words in (
        (
            SINGLE,
            ("uid", "label", "sentence"),
            r"no column 'premise' .*; rename 'sentence' to 'premise', or write columns: ",
        ),
        (
            SINGLE,
            ("uid", "premise", "labels"),
            "no column 'label', but 'labels'; write columns: {label: labels} in the",
        ),
        (
            SINGLE,
            ("uid", "premise", "Label"),
            "no column 'label', but 'Label'; write .* task file, or rename it to 'label', or",
        ),
        (TAGS, ("uid", "words", "tags"), "no column 'label', but 'tags'; write"),
    ):
        with pytest.raises(UserError, match=words):
            read(tmp_path, written(*columns), kind, name)
    assert read(tmp_path, written("uid", "premise", "tags"), MASKED, name) == (["yes"], ["yes"])
    assert read(tmp_path, written("uid", "premise", "score"), SINGLE, name) == (["yes"], ["yes"])


def test_a_foreign_table_has_each_needed_column_once(tmp_path: Path) -> None:
    (tmp_path / "foreign.tsv").write_text("sentence\tlabel\tlabel\tx\tx\na\tb\tc\td\te\n")
    table = open_table(tmp_path / "foreign.tsv", marker="sentence")
    table.need("sentence")
    with pytest.raises(UserError, match=r"foreign\.tsv: two columns have the name 'label'; rename one of them"):
        table.need("sentence", "label")
