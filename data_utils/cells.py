"""Turns the values of a row into text, as a TSV would have them in its cells.

JSONL, Parquet and Python have more than text. They are read like this:

- Numbers and truth values are what JSON writes for them: ``1``, ``2.5``, ``true``. Nothing (null, None) is empty.
- Dates and times are written as in ISO 8601, ``2020-01-31T12:00:00``, and decimal numbers with all their digits.
- A list is read in the columns ``words``, ``choices`` and ``soft_label``. In ``label`` it is read if an answer of the
  task may have several parts. An object is read in ``soft_label``.
- A nested value is an error in any other column that the task reads. In all other columns it is kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np

from data_utils.column_names import CHOICE
from data_utils.errors import UserError
from data_utils.files import spelled
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS

# By the kind of answer: what a label is, for an error about another value.
WANTED: Mapping[str, str] = {
    "class": "one label as a text",
    "class_set": "a list of labels",
    "word_classes": "a list with one label for each word",
    "number": "a number",
    "choice": "the number of the right choice",
    "choices": "a list of the numbers of the right choices",
    "spans": 'a list of answers, [[first character, "text"], …]',
}


def cells(location: str, values: Mapping[str, Any], task: TaskDef) -> dict[str, str]:
    """Returns a row as text by column. A list ``choices`` becomes the columns ``choice1``, ``choice2``, ….

    Raises:
        UserError: a value cannot be read in its column.
    """
    listed = "choices" in values and "choice1" in DATA_FORMATS[task.data_format]
    if listed and (single := next(filter(CHOICE.fullmatch, values), None)):
        raise UserError(f"{location}: has the columns 'choices' and '{single}'; keep either the list or single choices")
    row: dict[str, str] = {}
    for name, value in values.items():
        if listed and name == "choices":
            row |= _choices(f"{location}: choices", plain(value))
        else:
            row[name] = _cell(f"{location}: {task.columns.get(name, name)}", name, plain(value), task)
    return row


def _cell(here: str, name: str, value: Any, task: TaskDef) -> str:
    texts = DATA_FORMATS[task.data_format]
    if isinstance(value, str):
        return _valid(here, value)
    if name == "soft_label":
        return "" if value is None else _json(here, value)
    if name == "label" and task.type.answer in WANTED:
        return _label(here, value, task.type.answer)
    if name == "words" and name in texts:
        return _spaced(here, value, "word") if isinstance(value, list | tuple) else _scalar(here, value, "the words")
    if name in ("uid", "question_id", *texts) or (CHOICE.fullmatch(name) and "choice1" in texts):
        return _scalar(here, value, "one text")
    return _json(here, value) if isinstance(value, list | tuple | Mapping) else _any(here, value)


def _label(here: str, value: Any, answer: str) -> str:
    if isinstance(value, list | tuple):
        if answer in ("word_classes", "choices"):
            if not value:
                raise UserError(f"{here}: the list is empty; write {WANTED[answer]}, or null in all rows")
            return _spaced(here, value, "label")
        if answer == "class_set":
            return _json(here, [_scalar(here, plain(item), WANTED[answer]) for item in value])
        if answer == "spans":
            return _json(here, value)
    return _scalar(here, value, WANTED[answer])


def _choices(here: str, value: Any) -> dict[str, str]:
    try:
        texts = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        texts = None
    if not isinstance(texts, list | tuple):
        raise UserError(f'{here}: write a list of texts, ["a", "b"]; or give the columns choice1, choice2, …')
    found = [_scalar(here, plain(text), "a text for each choice") for text in texts]
    if "" in found:
        raise UserError(f"{here}: choice {found.index('') + 1} is empty; leave it out of the list")
    found += [""] * (2 - len(found))
    return {f"choice{number}": text for number, text in enumerate(found, 1)}


def _spaced(here: str, items: Sequence[Any], item_name: str) -> str:
    """The texts of a list with one space between two. ``item_name``: what an item is."""
    texts = [_scalar(here, plain(item), f"a text for each {item_name}") for item in items]
    if spaced := [text for text in texts if " " in text]:
        hint = ", or the sentence as a text" if item_name == "word" else ""
        raise UserError(f"{here}: '{spaced[0]}' has a space; give each {item_name} by itself{hint}")
    if "" in texts:
        raise UserError(
            f"{here}: {item_name} {texts.index('') + 1} of the list is empty; write a text for each {item_name}"
        )
    return " ".join(texts)


def _scalar(here: str, value: Any, wanted: str) -> str:
    """The text of a value that is not nested."""
    if isinstance(value, str):
        return _valid(here, value)
    text = spelled(value)
    if text is None or (isinstance(value, float) and text in ("NaN", "Infinity", "-Infinity")):
        raise UserError(f"{here}: is {_kind(value)}; write {wanted}")
    return text


def _any(here: str, value: Any) -> str:
    text = spelled(value)
    if text is None:
        raise UserError(f"{here}: is {_kind(value)}; write it as a text, or remove the column")
    return text


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, float):
        return f"{spelled(value)}, as for a missing value"
    return f"of type {type(value).__name__}"


def _json(here: str, value: Any) -> str:
    try:
        return _valid(here, json.dumps(value, ensure_ascii=False, default=_json_value))
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"{here}: has a value that JSON does not have; write it as a text") from None


def _json_value(value: Any) -> Any:
    if (found := plain(value)) is value:
        raise TypeError
    return found


def plain(value: Any) -> Any:
    """NumPy's values as Python's, dates and times in the form of ISO 8601, and a decimal number as text."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, date | time):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else value


def _valid(here: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = text[error.start]
        raise UserError(f"{here}: unpaired surrogate {lone!r} is not valid text; remove it") from None
    return str(text)  # np.str_ becomes str
