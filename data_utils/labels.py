"""The column ``label`` of canonical rows, read as each task type wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_utils.errors import UserError, did_you_mean
from data_utils.task_def import TaskDef

LARGEST = 3.4028234e38  # scores are kept in single precision


def read_labels(
    locations: Sequence[str], labels: Sequence[str] | None, task: TaskDef, parts: Sequence[Any]
) -> list[Any] | None:
    """What ``Rows.label`` holds; ``locations`` say where each row stands, ``parts`` are its choices, or its last text.

    A file is labelled as a whole or not at all: None. A masked language model reads no labels.

    Raises:
        UserError: a label or score that does not fit the task, with its place.
    """
    if task.task_type == "masked_lm" or labels is None or not any(labels):
        return None
    if "" in labels:
        raise UserError(f"{locations[labels.index('')]}: no label, but other rows have one")
    index = {label: number for number, label in enumerate(task.labels)}
    read: dict[str, Callable[[str, str, Any], Any]] = {
        "classification": lambda location, label, _: _class(location, label, index),
        "regression": lambda location, label, _: _score(location, label, task),
        "multiple_choice": _choice,
        "cloze": lambda location, label, choices: [_choice(location, one, choices) for one in label.split(" ")],
        "sequence_labelling": lambda location, label, words: _word_classes(location, label, words, index),
        "ordinal": lambda location, label, _: _class(location, label, index),
        "multi_label": lambda location, label, _: _classes(location, label, index),
        "span": lambda location, label, context: _answers(location, label, context, task),
    }
    rows = zip(locations, labels, parts, strict=True)
    return [read[task.task_type](location, label, part) for location, label, part in rows]


def _class(location: str, label: str, index: Mapping[str, int]) -> int:
    if label not in index:
        raise UserError(f"{location}: label '{label}' is not one of {', '.join(index)}{did_you_mean(label, index)}")
    return index[label]


def _classes(location: str, label: str, index: Mapping[str, int]) -> list[int]:
    """1 for each class that is listed, else 0."""
    try:
        names = json.loads(label)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError
    except (ValueError, RecursionError):
        raise UserError(f'{location}: label: write a list of labels as JSON, ["a", "b"]; [] is none of them') from None
    chosen = {_class(location, name, index) for name in names}
    return [int(number in chosen) for number in index.values()]


def _choice(location: str, label: str, choices: Sequence[str]) -> int:
    if label not in map(str, range(1, len(choices) + 1)):
        raise UserError(f"{location}: label '{label}' is not the number of a choice, 1 to {len(choices)}")
    return int(label) - 1


def _word_classes(location: str, labels: str, words: str, index: Mapping[str, int]) -> list[int]:
    own, count = labels.split(" "), words.count(" ") + 1
    if len(own) != count:
        raise UserError(f"{location}: {len(own)} labels for {count} words")
    return [_class(location, label, index) for label in own]


def _answers(location: str, label: str, context: str, task: TaskDef) -> list[tuple[int, str]]:
    try:
        answers = [(start, text) for start, text in json.loads(label)]
        if not all(type(start) is int and isinstance(text, str) and text for start, text in answers):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise UserError(
            f'{location}: label: write the answers as JSON, [[first character, "text"], …]; [] is no answer'
        ) from None
    if not answers and not task.no_answer:
        raise UserError(f"{location}: label: no answer; set no_answer: true in the task definition if that may be")
    for start, text in answers:
        if start < 0 or context[start : start + len(text)] != text:
            there = context[max(start, 0) :][: len(text)]
            raise UserError(f"{location}: label: the context has '{there}' at character {start}, not '{text}'")
    return answers


def _score(location: str, text: str, task: TaskDef) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{location}: label '{text}' is not a number") from None
    low, high = task.value_range or (-LARGEST, LARGEST)
    if not low <= value <= high:  # nor does NaN fit
        wanted = f"between {low:g} and {high:g}" if task.value_range else "finite"
        raise UserError(f"{location}: label '{text}' must be {wanted}")
    return value
