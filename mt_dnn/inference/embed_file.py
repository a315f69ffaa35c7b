"""Vectors of the texts in a file, as a stream: those of a window of rows are given out before the next is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from data_utils.errors import EmptyRow, UserError
from data_utils.inputs import Input, matching, read_inputs, windows
from data_utils.task_types import DATA_FORMATS
from mt_dnn.inference.embed import Text, text_task
from mt_dnn.inference.predict import WINDOW
from mt_dnn.inference.trained import TrainedModel

FORMATS = (DATA_FORMATS["pair"], DATA_FORMATS["single"])


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
        columns: the column of the text, or of both texts that are read together. Default: ``premise``, and
            ``hypothesis`` where the file has it: its header line, its schema, or the first object of JSONL. In plain
            text: one or two texts in a line, as in the first.
        pooling: see ``TrainedModel.embed``, as for ``level``.
        window: how many rows are read together.
        say: gets a line with the columns that are read by default, and one for each row without a text. Its vector is
            NaN.

    Raises:
        UserError: the file or a row of it cannot be read, or what ``TrainedModel.embed`` raises.
    """
    if columns is not None and len(columns) not in (1, 2):
        raise UserError(f"--columns: name one column or two, not {len(columns)}")
    formats = FORMATS if columns is None else (tuple(columns),)
    found = read_inputs(source, formats)
    try:
        (chosen, *_), rows = matching(found, formats)
    except UserError as error:
        raise (
            UserError(f"{error}, or name the columns of the texts with --columns") if columns is None else error
        ) from None
    if columns is None:
        say(f"{source}: the texts are {' and '.join(chosen)}")
    kind = np.float64 if next(model.model.parameters()).dtype == torch.float64 else np.float32
    task = text_task(pairs=len(chosen) == 2)
    for part in windows(rows, window):
        texts: dict[int, Text] = {}
        for number, row in enumerate(part):
            try:
                texts[number] = _texts(row, chosen)
            except EmptyRow as error:
                say(f"{error}; its vector is NaN")
        vectors = np.full((len(part), model.model.encoder.hidden_size), np.nan, kind)
        if texts:
            vectors[list(texts)] = model.embed(list(texts.values()), pooling=pooling, level=level)
        yield [row.uid(task) for row in part], vectors


def _texts(row: Input, columns: Sequence[str]) -> Text:
    """The text of a row, or both, in the order of the columns."""
    task = text_task(pairs=len(columns) == 2)
    if isinstance(row.values, Mapping):
        for name in columns:
            if isinstance(row.values.get(name), list | Mapping):
                raise UserError(f"{row.location}: {name}: is no text; name another column")
    record = row.texts(columns, task)
    first, *second = (record[name] for name in columns)
    return (first, second[0]) if second else first
