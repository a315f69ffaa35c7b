"""Vectors of the texts in a file, as a stream: those of a window of rows are given out before the next is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import torch

from data_utils.column_names import closest
from data_utils.errors import EmptyRow, UserError
from data_utils.inputs import Input, matching, read_inputs, windows
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS
from mt_dnn.inference.embed import Text, text_task
from mt_dnn.inference.predict import WINDOW
from mt_dnn.inference.trained import TrainedModel

TEXTS = DATA_FORMATS["pair"]  # our names of the first and the second text


def embed_file(
    model: TrainedModel,
    source: str,
    *,
    columns: Sequence[str] | None = None,
    pooling: str = "mean",
    level: int | None = None,
    window: int = WINDOW,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields the names and the vectors, (n, H), of each window of rows of a file, in the order of the rows.

    Args:
        source: a file as ``read_inputs`` reads it. Its rows are texts or pairs of texts.
        columns: the column of the text, or of both texts that are read together. Default: the columns that a task of
            the model reads, else ``premise``, and ``hypothesis`` where the file has it: its header line, its schema, or
            the first object of JSONL. In plain text: one or two texts in a line, as in the first.
        pooling: see ``TrainedModel.embed``, as for ``level``.
        window: how many rows are read together.
        say: gets a line with the columns that are read by default, and one for each row without a text. Its vector is
            NaN.

    Raises:
        UserError: the file or a row of it cannot be read, or what ``TrainedModel.embed`` raises.
    """
    if columns is not None and len(columns) not in (1, 2):
        raise UserError(f"--columns: name one column or two, not {len(columns)}")
    if columns is not None and ("" in columns or len(set(columns)) < len(columns)):
        raise UserError(f"--columns: '{','.join(columns)}' has an empty name or one twice; name one column or two")
    possible = _readings(model) if columns is None else [_reading(columns)]
    found = read_inputs(source, possible)
    if columns is not None:
        found = _checked(found, source, columns)
    try:
        (task, *_), rows = matching(found, possible)
    except UserError as error:
        raise (
            UserError(f"{error}, or name the columns of the texts with --columns") if columns is None else error
        ) from None
    if columns is None:
        chosen = [task.columns.get(name, name) for name in DATA_FORMATS[task.data_format]]
        say(f"{source}: the texts are {' and '.join(chosen)}")
    kind = np.float64 if next(model.model.parameters()).dtype == torch.float64 else np.float32
    for part in windows(rows, window):
        texts: dict[int, Text] = {}
        for number, row in enumerate(part):
            try:
                texts[number] = _texts(row, task)
            except EmptyRow as error:
                say(f"{error}; its vector is NaN")
        vectors = np.full((len(part), model.model.encoder.hidden_size), np.nan, kind)
        if texts:
            vectors[list(texts)] = model.embed(list(texts.values()), pooling=pooling, level=level)
        yield [row.uid(task) for row in part], vectors


def _checked(rows: Iterator[Input], source: str, columns: Sequence[str]) -> Iterator[Input]:
    """The rows. Raises UserError if the file has names of columns, and not all that were asked for."""
    first = next(rows)  # read_inputs refuses a file without rows
    for name in columns if first.columns else ():
        if name not in first.columns:
            known = ", ".join(first.columns)
            raise UserError(f"{source}: --columns: no column '{name}' ({known}){closest(name, first.columns)}")
    return chain([first], rows)


def _readings(model: TrainedModel) -> list[TaskDef]:
    """How a file may be read: by the names of columns of the model's tasks, or else by ours."""
    named = [task for task in model.tasks.values() if task.columns and task.data_format in ("single", "pair")]
    return [*named, text_task(pairs=True), text_task(pairs=False)]


def _reading(columns: Sequence[str]) -> TaskDef:
    """The task whose texts are in these columns, one or two."""
    return text_task(pairs=len(columns) == 2, columns=dict(zip(TEXTS, columns, strict=False)))


def _texts(row: Input, task: TaskDef) -> Text:
    """The text of a row, or both."""
    texts = DATA_FORMATS[task.data_format]
    if isinstance(row.values, Mapping):
        for name in (task.columns.get(name, name) for name in texts):
            if isinstance(row.values.get(name), list | Mapping):
                raise UserError(f"{row.location}: {name}: is no text; name another column")
    record = row.texts(task)
    first, *second = (record[name] for name in texts)
    return (first, second[0]) if second else first
