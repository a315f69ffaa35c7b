"""Turns rows into Prepared splits: in memory, or in Arrow files that are kept for the next time.

The name of a kept folder has a hash of everything that its content depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from data_utils.encoded_rows import WINDOWED, check_single, encode_windows, masking_settings
from data_utils.errors import UserError, os_errors
from data_utils.features import is_fast
from data_utils.files import open_file
from data_utils.gold_labels import check_uids, without_placeholders
from data_utils.kept import check_values, keep, writable
from data_utils.prepared import FORMAT, Prepared
from data_utils.row_windows import read_windows
from data_utils.rows import find_rows
from data_utils.task_def import TaskDef
from data_utils.vocabulary import unknown_share

# Prepared rows depend on these fields of a TaskDef.
SHARED_FIELDS = ("task_type", "data_format", "labels", "value_range", "no_answer", "enable_san")


# These settings of a tokenizer say where it comes from, not what it does.
ORIGIN = ("name_or_path", "is_local", "local_files_only", "tokenizer_file", "vocab_file", "merges_file", "backend")


# These settings of a tokenizer change the ids of a text, and no file or rule of it says so. Their usual values are left
# out of a fingerprint. padding_side and model_input_names are not read, because rows are not padded.
USUAL = {"truncation_side": "right", "split_special_tokens": False}


def prepare(
    task: TaskDef,
    split: str,
    *,
    data_dir: Path,
    cache_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stride: int = 128,
    max_rows: int | None = None,
    sample: bool = False,
) -> Prepared:
    """Reads ``<data_dir>/<task>_<split>.*``, turns its rows into token ids, and keeps them in ``cache_dir``.

    If the same rows were prepared in the same way before, the kept files are opened instead, unless an earlier version
    has rounded their numbers too much (``Prepared.is_coarse``). Then exact ones are kept beside them. The labels of a
    test split are dropped if they are placeholders (gold_labels.py).

    ``max_rows``, ``sample``: see ``read_rows``. ``max_length``, ``stride``: see ``encode_rows``.

    Raises:
        UserError: the file of rows is missing, wrong or being changed, two rows of a split other than ``train`` have
            the same uid, or ``cache_dir`` is a file. If it may only be read, the rows stay in memory.
    """
    source = find_rows(data_dir, task, split)
    rows_sha256 = _sha256(source)
    options: dict[str, Any] = {"max_length": max_length, "stride": stride, "name": source.name}
    settings = {
        "rows_sha256": rows_sha256,
        "definition": _definition(task),
        "tokenizer": fingerprint(tokenizer),
        "max_length": max_length,
        "stride": stride if task.data_format in WINDOWED else None,
        "max_rows": max_rows,
        "format": FORMAT,
        **({"sample": True} if sample else {}),
        **masking_settings(task, tokenizer),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir / f"{task.name}_{split}-{digest}"
    prepared = Prepared.open(folder) if folder.exists() else None
    if prepared is not None and prepared.is_coarse:  # the hash stays the same, so that old runs resume
        folder = folder.with_name(f"{folder.name}-float64")
        prepared = Prepared.open(folder) if folder.exists() else None
    if prepared is None:
        windows = read_windows(source, task, max_rows=max_rows, sample=sample, test="test" in split)
        windows = check_single(windows) if task.type.answer == "choices" and split == "train" else windows
        with os_errors(folder, "prepared data cannot be written"):
            encoded = encode_windows(windows, task, tokenizer, folder=partial(writable, cache_dir), **options)
        check_unchanged(source, rows_sha256)  # never keep other rows under the hash of these
        named = {"task": task.name, "split": split, "source": str(source), "hash": digest}
        prepared = keep(folder, replace(encoded, manifest={**named, **settings, **encoded.manifest}))
    if "unknown_share" not in prepared.manifest:  # an older version has written it
        share = unknown_share(prepared.tokens, tokenizer)
        prepared = replace(prepared, manifest={**prepared.manifest, "unknown_share": share})
    check_values(prepared, task.n_class if task.labels else None, tokenizer)
    check_questions(prepared, task)
    if split != "train":
        check_uids(prepared, source, task)
    return without_placeholders(prepared, task) if "test" in split else prepared


def prepare_all(
    wanted: Iterable[tuple[TaskDef, str]], *, max_train_rows: int | None = None, sample: bool = False, **options: Any
) -> tuple[dict[tuple[str, str], Prepared], dict[tuple[str, str], UserError]]:
    """Prepares many splits with the same ``options`` of ``prepare``.

    ``max_train_rows``, ``sample``: see ``max_rows`` and ``sample`` of ``read_rows``, for splits ``train`` alone.

    Returns two mappings by (task, split): the prepared splits, and the errors of splits that could not be prepared.
    """
    done: dict[tuple[str, str], Prepared] = {}
    problems: dict[tuple[str, str], UserError] = {}
    for task, split in wanted:
        try:
            of_train: dict[str, Any] = {"max_rows": max_train_rows, "sample": sample} if split == "train" else {}
            done[task.name, split] = prepare(task, split, **of_train, **options)
        except UserError as error:
            problems[task.name, split] = error
    return done, problems


def missing_notice(
    folder: Path, wanted: Iterable[tuple[TaskDef, str]], missing: Collection[tuple[str, str]]
) -> list[str]:
    """One line about the splits without a file of rows, or none.

    ``wanted``: all splits that were asked for. ``missing``: task and split of those without a file.
    """
    by_task: dict[str, dict[str, bool]] = {}
    for task, split in wanted:
        by_task.setdefault(task.name, {})[split] = (task.name, split) in missing
    parts = [
        task if all(splits.values()) and len(splits) > 1 else f"{task} {split}"
        for task, splits in by_task.items()
        for split, is_missing in splits.items()
        if is_missing
    ]
    return [f"no rows in {folder} for: {', '.join(dict.fromkeys(parts))}; skipped"] if parts else []


def check_questions(prepared: Prepared, task: TaskDef) -> None:
    """Raises UserError if a metric of the task needs the question of each row, but the rows have no question_id."""
    if prepared.questions is None and "question_exact_match" in task.metrics:
        source = prepared.manifest["source"]
        raise UserError(f"{source}: no column 'question_id'; {task.name}'s metric question_exact_match needs it")


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what the tokenizer does. It does not depend on the tokenizer's name or folder."""
    if is_fast(tokenizer):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        content: Any = {key: value for key, value in rules.items() if key not in ("truncation", "padding")}
    else:
        files = [Path(getattr(tokenizer, name, None) or "") for name in sorted(tokenizer.vocab_files_names)]
        content = [
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()),
            [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()],
            [(key, repr(value)) for key, value in sorted(tokenizer.init_kwargs.items()) if key not in ORIGIN],
        ]
    unusual = {name: value for name, usual in USUAL.items() if (value := getattr(tokenizer, name)) != usual}
    known = [content, unusual] if unusual else content
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def check_unchanged(source: Path, rows_sha256: str) -> None:
    """Raises UserError if a file of rows is not the one of this hash any more."""
    if _sha256(source) != rows_sha256:
        raise UserError(f"{source}: was changed while it was read; start again when it is complete")


def _sha256(path: Path) -> str:
    with os_errors(path, "cannot be read"), open_file(path) as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _definition(task: TaskDef) -> dict[str, Any]:
    """What prepared rows depend on in a definition. Without ``columns`` it is that of earlier versions."""
    values = task.model_dump(mode="json")
    return {field: values[field] for field in (*SHARED_FIELDS, *(["columns"] if task.columns else []))}
