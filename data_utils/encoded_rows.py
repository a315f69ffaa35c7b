"""Encodes rows: turns them into token ids and labels, at once or window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from data_utils.bars import bar, inside_bar
from data_utils.errors import UserError
from data_utils.features import Encoded, encode, ragged
from data_utils.prepared import Prepared
from data_utils.rows import Rows
from data_utils.spool import joined
from data_utils.task_def import TaskDef
from data_utils.vocabulary import unknown_share
from data_utils.windows import encode_contexts, encode_words

# The texts of these formats are cut into windows.
WINDOWED: dict[str, Callable[[Rows, PreTrainedTokenizerBase, int, int], Encoded]] = {
    "words": encode_words,
    "question_context": encode_contexts,
}


def encode_rows(
    rows: Rows, task: TaskDef, tokenizer: PreTrainedTokenizerBase, *, max_length: int, stride: int = 128
) -> Prepared:
    """Turns rows into token ids and labels, in memory. No file is read or written.

    ``max_length``: the longest sequence in tokens. Longer sequences are truncated. Labelled sentences and contexts of
    questions are cut into windows instead. ``stride``: how many tokens two neighbouring windows share.

    Raises:
        UserError: ``max_length`` leaves no room for text, or the tokenizer cannot do what the task type needs.
    """
    windowed = WINDOWED.get(task.data_format)
    encoded = (
        windowed(rows, tokenizer, max_length, stride)
        if windowed
        else encode(rows, tokenizer, max_length, text_numbers=task.enable_san, words=task.type.answer == "tokens")
    )
    lengths = encoded.lengths
    manifest = {
        "task": task.name,
        "source": str(rows.path),
        **masking_settings(task, tokenizer),
        "rows": len(rows),
        "labelled": rows.label is not None or task.type.answer == "tokens",
        "tokens": int(lengths.sum()),
        "length": {"min": int(lengths.min()), "mean": round(float(lengths.mean()), 2), "max": int(lengths.max())},
        "truncated": encoded.truncated,
        "unknown_share": unknown_share(encoded.tokens, tokenizer),
        "largest_id": int(encoded.tokens.max()),
    }
    return Prepared.of_columns(rows.path, pa.RecordBatch.from_pydict(_columns(rows, task, encoded)), manifest)


def encode_windows(
    windows: Iterable[Rows],
    task: TaskDef,
    tokenizer: PreTrainedTokenizerBase,
    *,
    folder: Callable[[], Path | None],
    name: str,
    max_length: int,
    stride: int,
) -> Prepared:
    """As ``encode_rows``, for rows that come in windows. Only one window is in memory.

    ``folder``: of the temporary files that hold the others, see ``joined``. ``name``: what the user sees being encoded.

    Raises:
        OSError: the files cannot be written.
        UserError: see ``encode_rows`` and ``joined``.
    """
    manifest: dict[str, Any] = {}
    questions: dict[str, int] = {}  # in the order in which they come

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in bar(windows, f"tokenize {name}", "chunk"):
            with inside_bar():
                found = encode_rows(rows, task, tokenizer, max_length=max_length, stride=stride)
            numbers = [questions.setdefault(text, len(questions)) for text in rows.extra.get("question_id", ())]
            changes = {"question": pa.array(numbers)}
            if found.sources is not None:
                changes["source"] = pa.array(found.sources + manifest.get("rows", 0))
            manifest.update(_together(manifest, found.manifest) if manifest else found.manifest)
            if rows.notice:
                manifest["notice"] = rows.notice
            yield _with_columns(found.batch, changes)

    batch = joined(batches(), folder)
    if "question" in batch.schema.names:  # numbered in the order of their names
        ranks = np.empty(len(questions), np.int64)
        ranks[[questions[text] for text in sorted(questions)]] = np.arange(len(questions))
        batch = _with_columns(batch, {"question": pa.array(ranks[batch.column("question").to_numpy()])})
    split = Prepared.of_columns(Path(manifest["source"]), batch, manifest)
    sequences, tokens = len(split.sequence_offsets) - 1, manifest["tokens"]
    length = {**manifest["length"], "mean": round(tokens / sequences, 2)}
    return replace(
        split, manifest={**manifest, "length": length, "unknown_share": unknown_share(split.tokens, tokenizer)}
    )


def _together(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The counts of two manifests together. Means and shares are those of the first."""
    length = {key: choose(first["length"][key], second["length"][key]) for key, choose in (("min", min), ("max", max))}
    return {
        **{key: first[key] + second[key] for key in ("rows", "tokens", "truncated")},
        "length": {**first["length"], **length},
        "largest_id": max(first["largest_id"], second["largest_id"]),
    }


def _with_columns(batch: pa.RecordBatch, changes: dict[str, pa.Array]) -> pa.RecordBatch:
    """The batch with other values in those of these columns that it has."""
    columns = [changes.get(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def check_single(windows: Iterable[Rows]) -> Iterator[Rows]:
    """Yields the windows. Raises UserError for a row with several right choices.

    A loss that raises one right choice lowers the others.
    """
    for rows in windows:
        for location, right in zip(rows.locations, rows.label or (), strict=False):
            if len(right) > 1:
                raise UserError(f"{location}: {len(right)} right choices; a training row has one, so keep only one")
        yield rows


def masking_settings(task: TaskDef, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, int]]:
    """The settings that ``Prepared.masked`` needs. Empty if the task masks no tokens."""
    if task.type.answer != "tokens":
        return {}
    if tokenizer.mask_token_id is None:
        raise UserError(f"masked_lm: {type(tokenizer).__name__} has no mask token; use an encoder trained with one")
    return {"masking": {"mask_id": tokenizer.mask_token_id, "vocabulary": len(tokenizer)}}


def _columns(rows: Rows, task: TaskDef, encoded: Encoded) -> dict[str, pa.Array]:
    """The Arrow columns of a split, by name."""
    sequence_offsets = np.concatenate([[0], np.cumsum(encoded.lengths)])
    uids = pa.array(rows.uid, pa.string())
    further = dict(encoded.columns)
    numbers = task.type.answer == "number"
    if task.type.answer == "class_set":  # one decision for each class, also if the rows are unlabelled
        labels = rows.label or [[0] * task.n_class] * len(rows)
        further["label"] = ragged([np.asarray(classes, np.int64) for classes in labels], pa.int64())
    if rows.soft is not None and task.data_format not in WINDOWED:
        further["soft"] = ragged([shares.ravel() for shares in rows.soft], pa.float64() if numbers else pa.float32())
    if encoded.rows is not None:
        uids, further["source"] = uids.take(pa.array(encoded.rows)), pa.array(encoded.rows)
    bounds = sequence_offsets
    if rows.choices is not None:
        groups = np.concatenate([[0], np.cumsum([len(choices) for choices in rows.choices])])
        bounds = sequence_offsets[groups]
        further["sequence_lengths"] = pa.LargeListArray.from_arrays(pa.array(groups), pa.array(encoded.lengths))
    if task.type.answer == "choices":
        right = rows.label or [[]] * len(rows)
        further["candidates"] = pa.array(rows.choices, pa.list_(pa.string()))
        further["right"] = pa.array(right, pa.list_(pa.int64()))
        further["label"] = pa.array([numbers[0] if numbers else None for numbers in right], pa.int64())
    if "question_id" in rows.extra and encoded.rows is None:
        further["question"] = pa.array(np.unique(rows.extra["question_id"], return_inverse=True)[1])
    if "label" not in further:
        further["label"] = pa.array(rows.label or [None] * len(rows), pa.float64() if numbers else pa.int64())
    offsets = pa.array(bounds, pa.int64())
    return {
        "uid": uids,
        "tokens": pa.LargeListArray.from_arrays(offsets, pa.array(encoded.tokens)),
        "token_types": pa.LargeListArray.from_arrays(offsets, pa.array(encoded.token_types)),
        **further,
    }
