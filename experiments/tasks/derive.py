"""Rows of task_defs/derived.yml from canonical rows of GLUE and CoNLL-2000.

python experiments/tasks/derive.py data OUTPUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from data_utils.rows import Rows, find_rows, read_rows, write_rows
from data_utils.task_def import TaskDef, load_task_defs

DEFS = Path(__file__).parents[2] / "task_defs"
KINDS = load_task_defs(DEFS / "derived.yml")["conll2000_kinds"].labels


def words(rows: Rows, number: int) -> dict[str, str]:
    return {"label": "", "premise": rows.premise[number]}


def grade(rows: Rows, number: int) -> dict[str, str]:
    assert rows.label is not None and rows.hypothesis is not None
    label = str(int(rows.label[number] + 0.5))
    return {"label": label, "premise": rows.premise[number], "hypothesis": rows.hypothesis[number]}


def kinds(task: TaskDef) -> Callable[[Rows, int], dict[str, str]]:
    def row(rows: Rows, number: int) -> dict[str, str]:
        assert rows.label is not None
        there = {task.labels[label].rpartition("-")[2] for label in rows.label[number]}
        return {"label": json.dumps([kind for kind in KINDS if kind in there]), "premise": rows.premise[number]}

    return row


def main(data: Path, output: Path) -> None:
    glue, tagging = load_task_defs(DEFS / "glue.yml"), load_task_defs(DEFS / "tagging.yml")
    chunks = tagging["conll2000_chunk"]
    sources = (
        ("sst2_words", glue["sst2"], data / "glue", ("train", "dev"), words),
        ("stsb_grade", glue["stsb"], data / "glue", ("train", "dev"), grade),
        ("conll2000_kinds", chunks, data / "chunking", ("train", "test"), kinds(chunks)),
    )
    output.mkdir(parents=True, exist_ok=True)
    for name, task, folder, splits, derived in sources:
        for split in splits:
            rows = read_rows(find_rows(folder, task.name, split), task)
            made = [{"uid": uid, **derived(rows, number)} for number, uid in enumerate(rows.uid)]
            write_rows(output / f"{name}_{split}.tsv", made, list(made[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
