"""Checks of splits that are scored: every row has a name, and labels are gold labels, not placeholders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.rows import read_records
from data_utils.scratch import chunks, scratch
from data_utils.task_def import TaskDef

FEW = 10  # as many gold labels may well be the same


def check_uids(prepared: Prepared, source: Path, task: TaskDef) -> None:
    """Raises UserError if two rows of ``source`` have the same uid, because predictions are known by it."""
    repeated = _repeated_hashes(prepared.each_uid(), prepared.row_count)
    if not repeated:
        return
    seen: dict[str, str] = {}
    for location, row in read_records(source, task):
        if hash(row["uid"]) not in repeated:
            continue
        if row["uid"] in seen:
            raise UserError(
                f"{location}: has the uid '{row['uid']}', as {seen[row['uid']]} has; give each row another uid"
            )
        seen[row["uid"]] = location


def _repeated_hashes(texts: Iterable[str], count: int) -> set[int]:
    """The hashes of 64 bits that several of the texts have."""
    hashes = scratch(count, np.int64)
    values = map(hash, texts)
    for part in chunks(count):
        hashes[part] = np.fromiter(values, np.int64, part.stop - part.start)
    hashes.sort()
    return {int(value) for value in hashes[1:][hashes[1:] == hashes[:-1]]}


def without_placeholders(prepared: Prepared, task: TaskDef) -> Prepared:
    """A test split without labels if all its rows have the same label, as test files of the old MT-DNN have.

    The notice for the user is in the manifest, under ``notice``. Few rows, and those of a task with
    ``constant_test_labels``, keep their labels.
    """
    rows = prepared.row_count
    if rows <= FEW or prepared.labels is None or task.type.answer == "tokens" or task.constant_test_labels:
        return prepared
    if not _all_the_same(prepared, task):
        return prepared
    notice = (
        f"{prepared.manifest['source']}: all {rows} rows have the same label, so it is taken for a placeholder and "
        f"they are not scored; if it is the right label, set constant_test_labels: true for {task.name} in the task "
        "file"
    )
    return replace(prepared, labels=None, manifest={**prepared.manifest, "labelled": False, "notice": notice})


def _all_the_same(prepared: Prepared, task: TaskDef) -> bool:
    assert prepared.labels is not None
    if prepared.contexts is not None:
        return len(pc.unique(prepared.contexts.answers)) == 1
    if prepared.candidates is not None:
        return len({tuple(right.as_py()) for right in prepared.candidates.right}) == 1
    if task.type.answer == "class_set":
        return len(np.unique(prepared.labels.reshape(-1, task.n_class), axis=0)) == 1
    return bool(np.ptp(prepared.labels) == 0)
