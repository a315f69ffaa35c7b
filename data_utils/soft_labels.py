"""Soft labels: the probabilities that teachers give to the answers of a row, as JSON in the column ``soft_label``.

| answer | JSON |
|---|---|
| class, class_set | the probability of each label, ``{"no": 0.2, "yes": 0.8}`` |
| word_classes | for each label its probability at each word, ``{"O": [0.9, 0.1], "B-PER": [0.1, 0.9]}`` |
| choice, choices | the probability of each choice, ``[0.2, 0.8]`` |
| number | the number |
| spans | the probabilities of answers, ``[[first character, character after the last, probability], …]`` |

Characters 0 and 0 mean no answer. Soft labels do not depend on a tokenizer. Tasks whose answers are tokens have none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_utils.errors import UserError
from data_utils.files import single_keys
from data_utils.task_def import TaskDef

COLUMN = "soft_label"


TOLERANCE = 1e-3  # how far a sum of probabilities may be from 1


def read_soft_labels(
    locations: Sequence[str], texts: Sequence[str] | None, task: TaskDef, subjects: Sequence[Any]
) -> list[Any] | None:
    """Reads the soft label of each row. None if no row has a soft label.

    ``locations`` and ``subjects``: as in ``labels.read_labels``. A soft label is an array (decisions, options) in
    float32; a number is in float64. If answers are spans, it is a list of (first character, character after the last,
    probability).

    Raises:
        UserError: a soft label does not fit the task, or is missing while other rows have one. The message has its
            location.
    """
    if texts is None or not any(texts):
        return None
    if task.type.answer not in FORMS:
        raise UserError(f"{locations[0]}: {COLUMN}: a {task.task_type} task has no soft labels; leave the column out")
    if "" in texts:
        raise UserError(f"{locations[texts.index('')]}: no {COLUMN}, but other rows have one")
    form, read = FORMS[task.type.answer]
    found = []
    for location, text, subject in zip(locations, texts, subjects, strict=True):
        try:
            found.append(read(json.loads(text, object_pairs_hook=single_keys), task, subject))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{location}: {COLUMN}: write {form} as JSON (got {text[:60]!r})") from None
    return found


def _class(value: Any, task: TaskDef, text: str) -> np.ndarray:
    return _distributions(_by_label(value, task)[None])


def _class_set(value: Any, task: TaskDef, text: str) -> np.ndarray:
    yes = _by_label(value, task)
    return _distributions(np.stack([1 - yes, yes], axis=1))


def _word_classes(value: Any, task: TaskDef, words: str) -> np.ndarray:
    return _distributions(_by_label(value, task, words.count(" ") + 1).T)


def _choices(value: Any, task: TaskDef, choices: Sequence[str]) -> np.ndarray:
    return _distributions(_numbers([value], 1, len(choices)))


def _number(value: Any, task: TaskDef, text: str) -> np.ndarray:
    return _numbers([[value]], 1, 1, kind=np.float64)


def _spans(value: Any, task: TaskDef, context: str) -> list[tuple[int, int, float]]:
    spans = [(start, end) for start, end, _ in value]
    for start, end in spans:
        if not (type(start) is type(end) is int and (0 <= start < end <= len(context) or start == end == 0)):
            raise ValueError
    shares = _distributions(_numbers([[p for *_, p in value]], 1, len(spans)))
    return [(*span, float(p)) for span, p in zip(spans, shares[0], strict=True)]


def _by_label(value: Any, task: TaskDef, *shape: int) -> np.ndarray:
    """The numbers given for each label, in the order of the task's labels, (C, …)."""
    if value.keys() != set(task.labels):
        raise ValueError
    return _numbers([value[label] for label in task.labels], task.n_class, *shape)


def _numbers(value: Any, *shape: int, kind: type[np.floating] = np.float32) -> np.ndarray:
    """The numbers in float32, or as ``kind``. Raises ValueError if they are not finite or have another shape."""
    found = np.asarray(value)
    if found.shape != shape or found.dtype.kind not in "if":
        raise ValueError
    if not (np.abs(found) <= np.finfo(np.float32).max).all():  # nor does NaN fit
        raise ValueError
    return found.astype(kind)


def _distributions(found: np.ndarray) -> np.ndarray:
    """Scales the probabilities of each decision to the sum 1, (decisions, options).

    Raises ValueError if a sum is not about 1, or a probability is below 0.
    """
    totals = found.sum(axis=1, keepdims=True)
    if found.min() < 0 or np.abs(totals - 1).max() > TOLERANCE:
        raise ValueError
    return found / totals


# By the kind of answer: words for an error that says what to write, and the function that reads the parsed JSON,
# (JSON, task, subject) → soft label. It raises ValueError, TypeError or AttributeError if the JSON does not fit.
FORMS: Mapping[str, tuple[str, Callable[[Any, TaskDef, Any], Any]]] = {
    "class": ("the probability of each label, which add up to 1,", _class),
    "class_set": ("the probability of each label", _class_set),
    "word_classes": (
        "for each label its probabilities, one per word; those of a word add up to 1;",
        _word_classes,
    ),
    "choice": ("the probability of each choice, which add up to 1,", _choices),
    "choices": ("the probability of each choice, which add up to 1,", _choices),
    "number": ("a number", _number),
    "spans": ("[[first character, character after the last, probability], …], which add up to 1,", _spans),
}
