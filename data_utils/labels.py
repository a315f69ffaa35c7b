"""Reads the column ``label`` of canonical rows. The answer of the task type decides how."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_utils.errors import UserError, did_you_mean, listed, shortened
from data_utils.files import Spelled, single_keys, spelled
from data_utils.task_def import TaskDef

LARGEST = 3.4028234e38  # losses are computed in single precision


def read_labels(
    locations: Sequence[str], labels: Sequence[str] | None, task: TaskDef, subjects: Sequence[Any]
) -> list[Any] | None:
    """Reads the labels of all rows, as ``Rows.label`` holds them. None if no row has a label.

    ``locations``: where in the file each row is. ``subjects``: for each row its choices, or its last text if it has no
    choices. If the answers of a task are tokens, its labels are not read.

    Raises:
        UserError: a label does not fit the task, or is missing while other rows have one. The message has its location.
    """
    read = READERS.get(task.type.answer)
    if read is None or labels is None or not any(labels):
        return None
    if "" in labels:
        raise UserError(f"{locations[labels.index('')]}: no label, but other rows have one; label all rows or none")
    rows = zip(locations, labels, subjects, strict=True)
    return [read(location, label, subject, task) for location, label, subject in rows]


def _class(location: str, label: str, subject: Any, task: TaskDef) -> int:
    """The index of the class."""
    if label not in task.labels:
        hint = did_you_mean(label, task.labels)
        raise UserError(f"{location}: label '{shortened(label)}' is not one of {listed(task.labels)}{hint}")
    return task.labels.index(label)


def _class_set(location: str, label: str, subject: Any, task: TaskDef) -> list[int]:
    """For each class of the task: 1 if the label lists it, else 0."""
    try:
        values = json.loads(label, parse_float=Spelled)
        names = [spelled(value) for value in values] if isinstance(values, list) else [None]
        if None in names or None in values:
            raise ValueError
    except (ValueError, RecursionError):
        raise UserError(f'{location}: label: write a list of labels as JSON, ["a", "b"]; [] is none of them') from None
    chosen = {_class(location, name or "", subject, task) for name in names}
    return [int(number in chosen) for number in range(task.n_class)]


def _word_classes(location: str, label: str, words: str, task: TaskDef) -> list[int]:
    """The index of the class of each word."""
    labels, count = label.split(" "), words.count(" ") + 1
    if len(labels) != count:
        raise UserError(f"{location}: {len(labels)} labels for {count} words; write one label for each word")
    return [_class(location, word_label, words, task) for word_label in labels]


def _number(location: str, label: str, subject: Any, task: TaskDef) -> float:
    try:
        value = float(label.replace("_", "?"))  # Python would read 1_000
    except ValueError:
        raise UserError(f"{location}: label '{shortened(label)}' is not a number") from None
    low, high = task.value_range or (-LARGEST, LARGEST)
    if not low <= value <= high:  # nor does NaN fit
        wanted = f"between {low:g} and {high:g}" if task.value_range else "finite"
        raise UserError(f"{location}: label '{shortened(label)}' must be {wanted}")
    return value


def _choice(location: str, label: str, choices: Sequence[str], task: TaskDef) -> int:
    """The number of the right choice, from 0. The file counts from 1."""
    if label not in map(str, range(1, len(choices) + 1)):
        raise UserError(f"{location}: label '{shortened(label)}' is not the number of a choice, 1 to {len(choices)}")
    return int(label) - 1


def _choices(location: str, label: str, choices: Sequence[str], task: TaskDef) -> list[int]:
    """The numbers of all right choices, from 0. The file counts from 1."""
    return [_choice(location, number, choices, task) for number in label.split(" ")]


def _spans(location: str, label: str, context: str, task: TaskDef) -> list[tuple[int, str]]:
    """The right answers as (first character in the context, text)."""
    try:
        answers = [_answer(value) for value in json.loads(label, object_pairs_hook=single_keys)]
        if not all(type(start) is int and isinstance(text, str) and text for start, text in answers):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise UserError(
            f'{location}: label: write the answers as JSON, [[first character, "text"], …]; [] is no answer'
        ) from None
    if not answers and not task.no_answer:
        raise UserError(f"{location}: label: no answer; set no_answer: true in the task definition to allow this")
    for start, text in answers:
        if start < 0 or context[start : start + len(text)] != text:
            there = context[max(start, 0) :][: len(text)]
            found = f"the context has '{shortened(there)}' at character {start}"
            raise UserError(f"{location}: label: {found}, not '{shortened(text)}'")
    return answers


def _answer(value: Any) -> tuple[int, str]:
    """An answer, [start, text]. Parquet has no lists of different types: there it is {"start": …, "text": …}."""
    if isinstance(value, dict) and value.keys() == {"start", "text"}:
        value = value["start"], value["text"]
    start, text = value if isinstance(value, list | tuple) else ()
    return start, text


# By the kind of answer, the function that reads the label of a row: (location, label, subject, task) → Rows.label.
READERS: Mapping[str, Callable[[str, str, Any, TaskDef], Any]] = {
    "class": _class,
    "class_set": _class_set,
    "word_classes": _word_classes,
    "number": _number,
    "choice": _choice,
    "choices": _choices,
    "spans": _spans,
}
