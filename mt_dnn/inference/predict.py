"""Predictions for the rows of a file, as a stream: those of a window of rows are given out before the next is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.column_names import text_columns
from data_utils.errors import EmptyRow, UserError
from data_utils.inputs import Input, matching, read_inputs, readings, windows
from data_utils.prepared import Prepared
from data_utils.rows import collect_rows
from data_utils.soft_labels import FORMS
from data_utils.task_def import TaskDef
from mt_dnn.inference.trained import TrainedModel, by_row
from mt_dnn.runs.outputs import row_outputs
from mt_dnn.runs.predictions import prediction_records
from mt_dnn.tasks.base import Decoding
from mt_dnn.tasks.kinds import KINDS

WINDOW = 2000  # rows that are in memory at once, and among which rows of like length share a forward pass

Record = tuple[str, dict[str, str]]  # the location of a row, and its texts by column


@dataclass(frozen=True)
class Wanted:
    """What a prediction holds besides what the predictions of a run folder hold.

    ``probabilities``: those of all options, as a soft label. ``logits``: see ``TrainedModel.logits``.
    """

    probabilities: bool = False
    logits: bool = False


def predict_file(
    model: TrainedModel, task: str, source: str, wanted: Wanted = Wanted(), *, window: int = WINDOW
) -> Iterator[dict[str, Any]]:
    """Yields the prediction of a task for each row of a file, in the order of the rows.

    Each is a dictionary as ``TrainedModel.predict`` gives it. A row without a text where the task needs one has the
    prediction None, and a ``reason`` with its location.

    ``source``, and what a file may hold: see ``read_inputs``. ``window``: how many rows are predicted together.

    Raises:
        UserError: no such task, the task has no probabilities, or a row does not fit the task.
    """
    definition = model.task(task)
    if wanted.probabilities and not has_probabilities(definition):
        raise UserError(f"--probabilities: {task} has none, it is a {definition.task_type} task; leave it out")
    possible = readings(definition)
    (reading, *_), rows = matching(read_inputs(source, possible), possible)
    for part in windows(rows, window):
        yield from predict_inputs(model, reading, part, wanted, source)


def predict_inputs(
    model: TrainedModel, task: TaskDef, rows: Sequence[Input], wanted: Wanted = Wanted(), source: str = "rows"
) -> list[dict[str, Any]]:
    """The prediction of a task for each of a few rows, as ``predict_file`` gives them. ``source``: for messages.

    Raises:
        UserError: a row does not fit the task.
    """
    predictions = _predicted(model, task, rows, wanted, source)
    return [{"uid": row.uid(task), **found} for row, found in zip(rows, predictions, strict=True)]


def predict_all(
    model: TrainedModel,
    source: str,
    wanted: Wanted = Wanted(),
    *,
    window: int = WINDOW,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Yields for each row of a file ``uid`` and ``predictions``, a dictionary with the prediction of each task.

    These are the tasks of the model whose text columns the file has. ``say`` gets a line about the others.

    Raises:
        UserError: the model has no task, the file fits none, or a row does not fit a task.
    """
    check_tasks(model)
    possible = [reading for task in model.tasks.values() for reading in readings(task)]
    fitting, rows = matching(read_inputs(source, possible), possible)
    tasks = list({task.name: task for task in reversed(fitting)}.values())[::-1]  # the first reading of each task
    for task in model.tasks.values():
        if task.name not in [reading.name for reading in tasks]:
            columns = ", ".join(text_columns(task.data_format, task.columns, task.columns.values()))
            say(f"{source}: {task.name} is left out, it reads other columns ({columns})")
    for part in windows(rows, window):
        by_task = {}
        for task in tasks:
            chosen = Wanted(wanted.probabilities and has_probabilities(task), wanted.logits)
            by_task[task.name] = _predicted(model, task, part, chosen, source)
        for number, row in enumerate(part):
            yield {"uid": row.uid(tasks[0]), "predictions": {name: found[number] for name, found in by_task.items()}}


def check_tasks(model: TrainedModel) -> None:
    """Raises UserError if the model has no task."""
    if not model.tasks:
        raise UserError(f"{model.run}: is an encoder without a task; predict with a trained run, or use mt-dnn embed")


def has_probabilities(task: TaskDef) -> bool:
    """Whether the options of the task's answers have probabilities."""
    return task.type.answer in FORMS and task.type.answer != "number"


def _predicted(
    model: TrainedModel, task: TaskDef, window: Sequence[Input], wanted: Wanted, source: str
) -> list[dict[str, Any]]:
    """The prediction for each row of a window, without its uid."""
    found: list[dict[str, Any]] = [{}] * len(window)
    records: dict[int, Record] = {}
    for number, row in enumerate(window):
        try:
            records[number] = row.location, {"uid": "", **row.texts(task)}
        except EmptyRow as error:
            found[number] = _nothing(error)
    split, unreadable = encode_readable(model, task, records, source)
    for number, problem in unreadable.items():
        found[number] = _nothing(problem)
    if split is not None:
        numbers = [number for number in records if number not in unreadable]
        for number, answer in zip(numbers, _answers(model, task, split, wanted), strict=True):
            found[number] = answer
    return found


def _nothing(error: EmptyRow) -> dict[str, Any]:
    return {"prediction": None, "reason": str(error)}


def encode_readable(
    model: TrainedModel, task: TaskDef, records: Mapping[int, Record], source: str
) -> tuple[Prepared | None, dict[int, EmptyRow]]:
    """Turns rows into token ids, all but those of which the tokenizer makes nothing.

    ``records``: rows by number. Returns the other rows, None if there are none; and the errors of these, by number.
    """
    if not records:
        return None, {}
    try:
        return model.encode(task, collect_rows(Path(source), records.values(), task)), {}
    except EmptyRow as error:
        if len(records) == 1:
            return None, dict.fromkeys(records, error)
    numbers, middle = list(records), len(records) // 2  # it is a single row as a rule, found in a few halvings
    unreadable: dict[int, EmptyRow] = {}
    for half in (numbers[:middle], numbers[middle:]):
        unreadable |= encode_readable(model, task, {number: records[number] for number in half}, source)[1]
    readable = {number: record for number, record in records.items() if number not in unreadable}
    return encode_readable(model, task, readable, source)[0], unreadable


def as_json(logits: np.ndarray) -> list[list[float]]:
    """The numbers with no more digits than their type has, (decisions, options)."""
    if logits.dtype == np.float64:
        return logits.tolist()
    return [[float(f"{value:.9g}") for value in row] for row in logits.tolist()]


def _answers(model: TrainedModel, task: TaskDef, split: Prepared, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yields the prediction for each row of a split, without its uid."""
    decoding = KINDS[task.task_type].decoding
    logits: list[np.ndarray] = []
    if wanted.logits:
        outputs = row_outputs(model.model, task.name, split, lambda outputs, batch: outputs, model.passes)
        logits = by_row(outputs, split)
    if wanted.logits and type(decoding).condensed is Decoding.condensed:  # its answers are made of all logits
        decoded = decoding(task, model.owner(task), split, outputs)
    else:
        decoded = model.decode(task, split)
    soft = decoding.soft_labels(task, split, [decoded]) if wanted.probabilities else iter(())
    for number, record in enumerate(prediction_records(task, split, decoded)):
        del record["uid"]
        if wanted.probabilities:
            record["probabilities"] = next(soft)
        if wanted.logits:
            record["logits"] = as_json(logits[number])
        yield record
