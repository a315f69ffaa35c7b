"""Rows to memory-mapped Arrow files, cached by the hash of everything that makes their content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_utils.errors import UserError
from data_utils.features import Encoded, encode, ragged
from data_utils.prepared import Prepared
from data_utils.rows import Rows, find_rows, read_rows
from data_utils.task_def import TaskDef
from data_utils.windows import encode_contexts, encode_words

FORMAT = 3  # raise it when the content of a prepared file changes for the same input


# fields of a TaskDef that prepared rows depend on
SHARED_FIELDS = ("task_type", "data_format", "labels", "value_range", "no_answer", "enable_san")


WINDOWED: dict[str, Callable[[Rows, Any, int, int], Encoded]] = {
    "words": encode_words,
    "question_context": encode_contexts,
}


def prepare(
    task: TaskDef,
    split: str,
    *,
    data_dir: Path,
    cache_dir: Path,
    tokenizer: Any,
    max_length: int,
    stride: int = 128,
    max_rows: int | None = None,
) -> Prepared:
    """Prepares one split, or opens it when the same rows were prepared in the same way before.

    ``stride``: tokens that two neighbouring windows of a long text share, where texts are cut into windows.

    Raises:
        UserError: the file is missing or bad, or the cache cannot be written.
    """
    source = find_rows(data_dir, task.name, split)
    settings = {
        "rows_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "definition": {field: task.model_dump(mode="json")[field] for field in SHARED_FIELDS},
        "tokenizer": fingerprint(tokenizer),
        "max_length": max_length,
        "stride": stride if task.data_format in WINDOWED else None,
        "max_rows": max_rows,
        "format": FORMAT,
    }
    if task.type.answer == "tokens":
        settings["masking"] = _masking(tokenizer)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{task.name}_{split}-{digest}"
    if not folder.exists():
        rows = read_rows(source, task, max_rows=max_rows)
        if task.type.answer == "choices" and split == "train":
            _check_single(rows)
        named = {"task": task.name, "split": split, "source": str(source), "hash": digest}
        windowed = WINDOWED.get(task.data_format)
        encoded = (
            windowed(rows, tokenizer, max_length, stride)
            if windowed
            else encode(rows, tokenizer, max_length, parts=task.enable_san, words=task.type.answer == "tokens")
        )
        _write(folder, rows, task, {**named, **settings}, encoded)
    prepared = Prepared.open(folder)
    if prepared.questions is None and "question_exact_match" in task.metrics:
        raise UserError(f"{source}: no column 'question_id'; {task.name}'s metric question_exact_match needs it")
    return prepared


def prepare_all(
    wanted: Iterable[tuple[TaskDef, str]], *, max_train_rows: int | None = None, **options: Any
) -> tuple[dict[tuple[str, str], Prepared], dict[tuple[str, str], UserError]]:
    """Prepares many splits: those that succeed, and the problem of each that does not, by (task, split)."""
    done: dict[tuple[str, str], Prepared] = {}
    problems: dict[tuple[str, str], UserError] = {}
    for task, split in wanted:
        try:
            max_rows = max_train_rows if split == "train" else None
            done[task.name, split] = prepare(task, split, max_rows=max_rows, **options)
        except UserError as error:
            problems[task.name, split] = error
    return done, problems


def fingerprint(tokenizer: Any) -> str:
    """A hash of what the tokenizer does, whatever its name or folder."""
    if getattr(tokenizer, "is_fast", False):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        content: Any = {key: value for key, value in rules.items() if key not in ("truncation", "padding")}
    else:
        content = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), repr(tokenizer.init_kwargs)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _masking(tokenizer: Any) -> dict[str, int]:
    if tokenizer.mask_token_id is None:
        raise UserError(f"masked_lm: {type(tokenizer).__name__} has no mask token; use an encoder trained with one")
    return {"mask_id": tokenizer.mask_token_id, "vocabulary": len(tokenizer)}


def _check_single(rows: Rows) -> None:
    """A loss that lifts one right choice would push the others down."""
    for location, right in zip(rows.locations, rows.label or (), strict=False):
        if len(right) > 1:
            raise UserError(f"{location}: {len(right)} right choices; a training row has one, leave the others out")


def _write(folder: Path, rows: Rows, task: TaskDef, manifest: dict[str, Any], encoded: Encoded) -> None:
    """Writes data and manifest under a temporary name and renames the folder."""
    sequence_offsets = np.concatenate([[0], np.cumsum(encoded.lengths)])
    uids = pa.array(rows.uid, pa.string())
    further = dict(encoded.columns)
    if task.type.answer == "class_set":  # as many as classes, labelled or not
        zeros = [[0] * task.n_class] * len(rows)
        further["label"] = ragged([np.asarray(own, np.int64) for own in rows.label or zeros], pa.int64())
    if rows.soft is not None and task.data_format not in WINDOWED:
        further["soft"] = ragged([own.ravel() for own in rows.soft], pa.float32())
    if encoded.rows is not None:
        uids, further["source"] = uids.take(pa.array(encoded.rows)), pa.array(encoded.rows)
    bounds = sequence_offsets
    if rows.choices is not None:
        groups = np.concatenate([[0], np.cumsum([len(own) for own in rows.choices])])
        bounds = sequence_offsets[groups]
        further["sequence_lengths"] = pa.LargeListArray.from_arrays(pa.array(groups), pa.array(encoded.lengths))
    offsets = pa.array(bounds, pa.int64())
    if task.type.answer == "choices":
        right = rows.label or [[]] * len(rows)
        further["candidates"] = pa.array(rows.choices, pa.list_(pa.string()))
        further["right"] = pa.array(right, pa.list_(pa.int64()))
        further["label"] = pa.array([own[0] if own else None for own in right], pa.int64())
    if "question_id" in rows.extra and encoded.rows is None:
        further["question"] = pa.array(np.unique(rows.extra["question_id"], return_inverse=True)[1])
    if "label" not in further:
        label_type = pa.float32() if task.type.answer == "number" else pa.int64()
        further["label"] = pa.array(rows.label or [None] * len(rows), label_type)
    columns = {
        "uid": uids,
        "tokens": pa.LargeListArray.from_arrays(offsets, pa.array(encoded.tokens)),
        "token_types": pa.LargeListArray.from_arrays(offsets, pa.array(encoded.token_types)),
        **further,
    }
    batch = pa.RecordBatch.from_pydict(columns)
    lengths = encoded.lengths
    counts = {
        "rows": len(rows),
        "labelled": rows.label is not None or task.type.answer == "tokens",
        "tokens": int(lengths.sum()),
        "length": {"min": int(lengths.min()), "mean": round(float(lengths.mean()), 2), "max": int(lengths.max())},
        "truncated": encoded.truncated,
        "largest_id": int(encoded.tokens.max()),
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        with pa.OSFile(str(temporary / "data.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        (temporary / "manifest.json").write_text(json.dumps({**manifest, **counts}, indent=1) + "\n", encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():  # another process was faster; the content is the same
            return
        raise UserError(f"{folder}: prepared data cannot be written ({error.strerror or error})") from None
