"""mt-dnn distill: what trained runs think of training rows, written beside them as soft labels (MT-DNN-KD)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from data_utils.errors import MissingRows, UserError, did_you_mean, os_errors
from data_utils.prepared import Prepared
from data_utils.rows import find_rows, read_records, write_rows
from data_utils.soft_labels import COLUMN, FORMS
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.text_table import table
from mt_dnn.inference.trained import load_trained, predict_rows
from mt_dnn.runs.build import build_splits
from mt_dnn.runs.checkpoint import find_checkpoint
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.run_tasks import evaluated_tasks

ANSWERS = ("task_type", "data_format", "labels")  # what teachers of a task must agree on


@dataclass(frozen=True)
class Lesson:
    """The training rows of a task, and what each of its teachers thinks of them."""

    task: TaskDef
    split: Prepared
    teachers: list[Decoded] = field(default_factory=list)


def distill_command(
    runs: Sequence[Path], *, data: Path, output: Path, tasks: Sequence[str] | None, max_rows: int | None
) -> None:
    """Writes ``<task>_train.tsv`` with a column ``soft_label`` for each task, and copies its other splits.

    A task is taught by all runs that were trained on it. Nothing is written before all of them have answered.

    Raises:
        UserError: no such run, task or rows, teachers that do not agree on a task's labels, ``output`` is ``data``.
    """
    if output.resolve() == data.resolve():
        raise UserError(f"--output {output}: is the folder of --data; choose another")
    defs = definitions(runs, tasks)
    trained = {name: task for name, task in defs.items() if task.trainable and task.type.answer in FORMS}
    for name in tasks or ():
        if name not in trained:
            hint = did_you_mean(name, trained) or f" (known: {', '.join(trained)})"
            raise UserError(f"--tasks: no run can teach '{name}'{hint}")
    lessons: dict[str, Lesson] = {}
    missing: list[str] = []
    for run in runs:
        missing += ask(run, lessons, data=data, tasks=tasks, max_rows=max_rows)
    if not lessons:
        raise UserError(f"{data}: no training rows for any of {', '.join(trained)}")
    for problem in dict.fromkeys(missing):
        print(f"mt-dnn: {problem}", file=sys.stderr)
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        for lesson in lessons.values():
            write(lesson, data, output, max_rows)
        copy_other_splits(evaluated_tasks(defs, {name: defs[name] for name in lessons}), data, output)
    rows = [(name, str(len(one.split.firsts)), str(len(one.teachers))) for name, one in lessons.items()]
    print(table(("task", "rows", "teachers"), rows))
    print(f"\nnext: mt-dnn train RUN.yml data.dir={output} distillation.weight=0.5")


def definitions(runs: Sequence[Path], tasks: Sequence[str] | None) -> dict[str, TaskDef]:
    """The tasks that the runs know, as the first that knows them does.

    Raises:
        UserError: two runs mean different answers by the name of a task that is asked for.
    """
    defs: dict[str, TaskDef] = {}
    for run in runs:
        for name, task in load_task_defs(find_checkpoint(run) / "task_defs.yml").items():
            first = defs.setdefault(name, task)
            differing = [key for key in ANSWERS if getattr(first, key) != getattr(task, key)]
            if differing and (tasks is None or name in tasks):
                raise UserError(f"{run}: {name}: has other {differing[0]} than in a run before; leave one of them out")
    return defs


def ask(
    run: Path, lessons: dict[str, Lesson], *, data: Path, tasks: Sequence[str] | None, max_rows: int | None
) -> list[str]:
    """Adds what a run thinks to the lessons of the tasks that it was trained on; one line for each file not there."""
    loaded = load_trained(run)
    config, known, tokenizer, _ = loaded
    there = config.data.model_copy(update={"dir": data, "cache": None, "max_rows": max_rows})
    config = config.model_copy(update={"data": there, "tasks": tasks})
    teachable = {name: task for name, task in known.trained.items() if task.type.answer in FORMS}
    wanted = [(task, "train") for name, task in teachable.items() if tasks is None or name in tasks]
    splits, problems = build_splits(config, wanted, tokenizer)
    for (name, _), split in splits.items():
        lesson = lessons.setdefault(name, Lesson(known.trained[name], split))
        lesson.teachers.append(predict_rows(loaded, lesson.task, split))
    return problems


def write(lesson: Lesson, data: Path, output: Path, max_rows: int | None) -> None:
    """Writes the rows as they stand, but for their soft labels."""
    task = lesson.task
    thoughts = KINDS[task.task_type].decoding.soft_labels(task, lesson.split, lesson.teachers)
    records = islice(read_records(find_rows(data, task.name, "train"), task), max_rows)
    rows = [
        {**record, COLUMN: json.dumps(thought, ensure_ascii=False)}
        for (_, record), thought in zip(records, thoughts, strict=True)
    ]
    write_rows(output / f"{task.name}_train.tsv", rows, list(rows[0]))


def copy_other_splits(tasks: dict[str, TaskDef], data: Path, output: Path) -> None:
    """Copies what a student of these tasks is scored on, so that ``output`` is all the data it needs."""
    for task in tasks.values():
        for split in task.splits:
            if split != "train":
                try:
                    source = find_rows(data, task.name, split)
                except MissingRows:
                    continue
                shutil.copyfile(source, output / source.name)
