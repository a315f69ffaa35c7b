"""Rows as Python values: every form of a row, labels, and what is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from data_utils.errors import UserError
from data_utils.python_rows import rows_from_python
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef, load_task_defs
from tests.workspace import MORE_TASKS, TASK_DEFS, make_workspace, rows_of


class Pair(NamedTuple):
    """A named tuple whose fields are in another order than the columns of a pair."""

    hypothesis: str
    premise: str


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskDef]:
    folder = tmp_path_factory.mktemp("rows")
    make_workspace(folder, train_rows=4, more=list(MORE_TASKS))
    return load_task_defs(folder / "tasks.yml")


def found(rows: Any, task: TaskDef, **options: bool) -> Any:
    rows = rows_from_python(rows, task, **options)
    assert rows is not None
    return rows


def test_a_row_has_many_forms(defs: dict[str, TaskDef]) -> None:
    for rows in (
        [("a", "b"), ("c", "d")],
        (["a", "b"], ("c", "d")),
        iter([("a", "b"), {"hypothesis": "d", "premise": "c"}]),
        ({"premise": first, "hypothesis": second} for first, second in ("ab", "cd")),
        np.array([["a", "b"], ["c", "d"]]).tolist(),
        [Pair(premise="a", hypothesis="b"), Pair(premise="c", hypothesis="d")],
    ):
        read = found(rows, defs["same"])
        assert (read.uid, read.first, read.second) == (["1", "2"], ["a", "c"], ["b", "d"])
        assert read.label is None and read.soft is None and read.locations == ["row 1", "row 2"]
    single = found(["a", ("b",), {"premise": "c", "uid": 7, "anything": None}, np.str_("d")], defs["negated"])
    assert single.first == ["a", "b", "c", "d"] and single.uid == ["1", "2", "7", "4"] and single.second is None


def test_choices_may_be_of_different_numbers(defs: dict[str, TaskDef]) -> None:
    rows = [
        ("q", "a", "b"),
        ["q", "a", "b", "c"],
        {"premise": "q", "choice2": "b", "choice1": "a"},
        ("q", "a", "b", ""),
    ]
    assert found(rows, defs["odd"]).choices == [["a", "b"], ["a", "b", "c"], ["a", "b"], ["a", "b"]]
    gap = found([("p", "is @placeholder", "a", "b", "c")], defs["gap"])
    assert gap.choices == [["a", "b", "c"]] and gap.second == ["is @placeholder"]


def test_a_sentence_is_a_text_or_its_words(defs: dict[str, TaskDef]) -> None:
    rows = ["the cat", ("the", "cat"), {"words": ["the", "cat"]}, {"words": "the cat"}]
    assert found(rows, defs["tagged"]).first == ["the cat"] * 4


@pytest.mark.parametrize("name", [name for name in {**TASK_DEFS, **MORE_TASKS} if name not in ("same_hard", "guessed")])
def test_labels_are_those_of_a_file(name: str, tmp_path: Any) -> None:
    make_workspace(tmp_path, train_rows=6, more=list(MORE_TASKS))
    task = load_task_defs(tmp_path / "tasks.yml")[name]
    path = tmp_path / "data" / f"{name}_train.tsv"
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    expected = read_rows(path, task)
    assert found(rows, task, labelled=True).label == expected.label is not None
    assert found(rows, task).label is None


def test_labels_may_be_python_values(defs: dict[str, TaskDef]) -> None:
    for name, row, label, expected in (
        ("overlap", {"premise": "a", "hypothesis": "b"}, np.float32(2.5), 2.5),
        ("odd", {"premise": "a", "choice1": "b", "choice2": "c"}, 2, 1),
        ("tagged", {"words": "a b"}, ["O", "B-X"], [0, 1]),
        ("marks", {"premise": "a"}, ["cat", "not"], [1, 0, 1]),
        ("found", {"question": "q", "context": "a b"}, [(2, "b")], [(2, "b")]),
        ("gap", {"premise": "a", "query": "@placeholder", "choice1": "b", "choice2": "c"}, [1, 2], [0, 1]),
    ):
        assert found([{**row, "label": label}], defs[name], labelled=True).label == [expected]
    rows = [{"premise": "a", "hypothesis": "b", "label": "same", "soft_label": "x", "question_id": 3}]
    assert found(rows, defs["same"], labelled=True).extra == {"question_id": ["3"]}
    assert found(rows, defs["same"]).extra == {}


def test_no_rows_are_no_rows(defs: dict[str, TaskDef]) -> None:
    assert rows_from_python([], defs["same"]) is None and rows_from_python(iter(()), defs["same"]) is None


class Table(list[str]):
    """What iterates over its columns, as a DataFrame does."""

    def itertuples(self) -> None: ...


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("negated", "the cat", "rows: give a list of rows, not a single str; for one row, write [row]"),
        ("same", {"premise": "a"}, "rows: give a list of rows, not a single dict"),
        ("same", 3, "rows: give a list of rows, not a single int"),
        ("negated", Table(["premise"]), "rows: a table is not a list of rows; give its records"),
        ("negated", ["a", 3], "row 2: is of type int; a row of negated is a text, or a dictionary: premise"),
        ("same", ["a"], "row 1: has 1 text; a row of same is a tuple, or a dictionary: premise, hypothesis"),
        ("same", [("a", "b", "c")], "row 1: has 3 texts; a row of same is"),
        (
            "same",
            [("a", "b"), {"premise": "a", "hypo": "b"}],
            "row 2: no 'hypothesis' among premise, hypo; a row of same",
        ),
        ("same", [("a", None)], "row 1: hypothesis: is of type NoneType, not a text"),
        ("negated", [float("nan")], "row 1: is of type float"),
        (
            "odd",
            [("a", "b")],
            "row 1: has 2 texts; a row of odd is a tuple, or a dictionary: premise, choice1, choice2 and",
        ),
        ("odd", [("a", "b", "c", "", "d")], "row 1: choice3 is empty"),
        ("gap", [("a", "b", "c", "d")], "row 1: query: has @placeholder 0 times"),
        ("tagged", ["a b", "a  b"], "row 2: words: two spaces"),
        ("tagged", [("a b", "c")], "row 1: words: 'a b' has a space; give each word by itself"),
        ("negated", ["a", "b \ud83d"], "row 2: premise: unpaired surrogate"),
    ],
)
def test_a_bad_row_is_one_line(task: str, rows: Any, message: str, defs: dict[str, TaskDef]) -> None:
    with pytest.raises(UserError) as error:
        rows_from_python(rows, defs[task])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_bad_label_is_one_line(defs: dict[str, TaskDef]) -> None:
    row = {"premise": "a", "hypothesis": "b"}
    for rows, message in (
        ([{**row, "label": "smae"}], "row 1: label 'smae' is not one of"),
        ([{**row, "label": "same"}, row], "row 2: no label, but other rows have one"),
    ):
        with pytest.raises(UserError, match=message):
            rows_from_python(rows, defs["same"], labelled=True)


def test_rows_of_the_workspace_are_read(defs: dict[str, TaskDef]) -> None:
    for name in MORE_TASKS:
        rows = [row[2] if len(row) == 3 else row[2:] for row in rows_of(name, 5, 1)]
        assert len(found(rows, defs[name])) == 5
