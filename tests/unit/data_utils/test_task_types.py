"""The entries of TASK_TYPES name only what there is, and all that there is fits a type."""

from __future__ import annotations

from typing import get_args

import pytest

from data_utils.labels import READERS
from data_utils.metrics import METRICS
from data_utils.soft_labels import FORMS
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS, DIVERGENCES, LOSSES, TASK_TYPES, Answer


@pytest.mark.parametrize("name", TASK_TYPES)
def test_defaults_fit_their_type(name: str) -> None:
    entry = TASK_TYPES[name]
    labels = tuple(f"B-{number}" for number in range(entry.least_labels))
    fields = {"name": "t", "task_type": name, "data_format": entry.formats[0], "labels": labels, **entry.defaults}
    assert TaskDef.model_validate(fields).type is entry
    assert set(entry.default_metrics) <= set(entry.metrics)


@pytest.mark.parametrize(
    ("attribute", "known"),
    [("formats", DATA_FORMATS), ("losses", LOSSES), ("divergences", DIVERGENCES), ("metrics", METRICS)],
)
def test_what_fits_is_known_and_what_is_known_fits(attribute: str, known: object) -> None:
    assert {value for entry in TASK_TYPES.values() for value in getattr(entry, attribute)} == set(known)  # type: ignore


def test_fields_of_some_types_are_fields_of_a_task() -> None:
    fields = {field for entry in TASK_TYPES.values() for field in entry.fields}
    assert fields < TaskDef.model_fields.keys()
    assert all(not TaskDef.model_fields[field].get_default(call_default_factory=True) for field in fields)


def test_every_answer_is_read_and_belongs_to_a_type() -> None:
    answers = set(get_args(Answer))
    assert {entry.answer for entry in TASK_TYPES.values()} == answers
    assert READERS.keys() == FORMS.keys() == answers - {"tokens"}
