"""Soft labels: what teachers think of a row, as JSON in the column ``soft_label``; no tokenizer matters to them.

| task type | JSON |
|---|---|
| classification, ordinal, multi_label | the probability of each label, ``{"no": 0.2, "yes": 0.8}`` |
| sequence_labelling | those of each word, ``{"O": [0.9, 0.1], "B-PER": [0.1, 0.9]}`` |
| multiple_choice, cloze | the probability of each choice, ``[0.2, 0.8]`` |
| regression | a value |
| span | how likely answers are, ``[[first character, character after the last, probability], …]``; 0 and 0: no answer |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_utils.errors import UserError
from data_utils.task_def import TaskDef

COLUMN = "soft_label"


TOLERANCE = 1e-3  # of a sum that should be 1


def read_soft_labels(
    locations: Sequence[str], texts: Sequence[str] | None, task: TaskDef, parts: Sequence[Any]
) -> list[Any] | None:
    """The soft label of each row: (decisions, options) float32, or, of a span task, its JSON; ``parts`` are each row's
    choices, or its last text. All rows of a file have one, or none.

    Raises:
        UserError: one is missing or does not fit the task, with its place.
    """
    if texts is None or not any(texts):
        return None
    if task.task_type not in FORMS:
        raise UserError(f"{locations[0]}: {COLUMN}: a {task.task_type} task has none; leave the column out")
    if "" in texts:
        raise UserError(f"{locations[texts.index('')]}: no {COLUMN}, but other rows have one")
    form, read = FORMS[task.task_type]
    found = []
    for location, text, part in zip(locations, texts, parts, strict=True):
        try:
            found.append(read(json.loads(text), task, part))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{location}: {COLUMN}: write {form} as JSON (got {text[:60]!r})") from None
    return found


def _classes(value: Any, task: TaskDef, text: str) -> np.ndarray:
    return _distributions(_by_label(value, task)[None])


def _class_sets(value: Any, task: TaskDef, text: str) -> np.ndarray:
    yes = _by_label(value, task)
    return _distributions(np.stack([1 - yes, yes], axis=1))


def _word_classes(value: Any, task: TaskDef, words: str) -> np.ndarray:
    return _distributions(_by_label(value, task, words.count(" ") + 1).T)


def _choices(value: Any, task: TaskDef, choices: Sequence[str]) -> np.ndarray:
    return _distributions(_numbers([value], 1, len(choices)))


def _value(value: Any, task: TaskDef, text: str) -> np.ndarray:
    return _numbers([[value]], 1, 1)


def _spans(value: Any, task: TaskDef, context: str) -> list[tuple[int, int, float]]:
    locations = [(start, end) for start, end, _ in value]
    for start, end in locations:
        if not (type(start) is type(end) is int and (0 <= start < end <= len(context) or start == end == 0)):
            raise ValueError
    shares = _distributions(_numbers([[p for *_, p in value]], 1, len(locations)))
    return [(*location, float(p)) for location, p in zip(locations, shares[0], strict=True)]


def _by_label(value: Any, task: TaskDef, *shape: int) -> np.ndarray:
    """What stands for each label, in the order of the classes, (C, …)."""
    if value.keys() != set(task.labels):
        raise ValueError
    return _numbers([value[label] for label in task.labels], task.n_class, *shape)


def _numbers(value: Any, *shape: int) -> np.ndarray:
    found = np.asarray(value)
    if found.shape != shape or found.dtype.kind not in "if":
        raise ValueError
    if not (np.abs(found) <= np.finfo(np.float32).max).all():  # nor does NaN fit
        raise ValueError
    return found.astype(np.float32)


def _distributions(found: np.ndarray) -> np.ndarray:
    """Probabilities (decisions, options), of which each decision's add up to 1."""
    totals = found.sum(axis=1, keepdims=True)
    if found.min() < 0 or np.abs(totals - 1).max() > TOLERANCE:
        raise ValueError
    return found / totals


# By task type: what to write, and what reads it.
FORMS: Mapping[str, tuple[str, Callable[[Any, TaskDef, Any], Any]]] = {
    "classification": ("the probability of each label, which add up to 1,", _classes),
    "ordinal": ("the probability of each label, which add up to 1,", _classes),
    "multi_label": ("the probability of each label", _class_sets),
    "sequence_labelling": (
        "for each label its probabilities, one per word; those of a word add up to 1;",
        _word_classes,
    ),
    "multiple_choice": ("the probability of each choice, which add up to 1,", _choices),
    "cloze": ("the probability of each choice, which add up to 1,", _choices),
    "regression": ("a number", _value),
    "span": ("[[first character, character after the last, probability], …], which add up to 1,", _spans),
}
