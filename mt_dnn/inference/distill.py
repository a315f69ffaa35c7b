"""mt-dnn distill: trained runs, the teachers, write soft labels for training rows (MT-DNN-KD)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from data_utils.errors import MissingRows, UserError, did_you_mean, os_errors, tell
from data_utils.files import replacing
from data_utils.prepare import check_unchanged
from data_utils.prepared import Prepared
from data_utils.row_files import kind_of
from data_utils.rows import as_in_files, find_rows, read_records, write_rows
from data_utils.soft_labels import COLUMN, FORMS
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.text_table import table
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.inference.trained import TrainedModel, load
from mt_dnn.runs.checkpoints import read_checkpoint
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.run_tasks import evaluated_tasks

ANSWERS = ("task_type", "data_format", "labels")  # these fields must be the same for all teachers of a task


@dataclass(frozen=True)
class Lesson:
    """The training rows of a task, and the predictions of each teacher for these rows."""

    task: TaskDef
    split: Prepared
    teachers: list[Decoded] = field(default_factory=list)


def distill_command(
    runs: Sequence[Path],
    *,
    data: Path,
    output: Path,
    tasks: Sequence[str] | None,
    max_rows: int | None,
    device: str | None = None,
) -> None:
    """Writes ``<output>/<task>_train.tsv`` with a column ``soft_label`` for each task, and copies its other splits.

    All runs that were trained on a task are its teachers. Files are written after all teachers have predicted.
    ``tasks``: only these tasks (default: all). ``max_rows``: only the first rows of each training split.
    ``device``: where the teachers run. Default: the device in each teacher's configuration.

    Raises:
        UserError: a run, task or file of rows does not exist; the teachers of a task do not have the same labels;
            ``output`` is the folder ``data``.
    """
    if output.resolve() == data.resolve():
        raise UserError(f"--output {output}: is the folder of --data; choose another folder")
    defs = definitions(runs, tasks)
    trained = {name: task for name, task in defs.items() if task.trainable and task.type.answer in FORMS}
    for name in tasks or ():
        if name not in trained:
            hint = did_you_mean(name, trained) or f" (known: {', '.join(trained)})"
            raise UserError(f"--tasks: no run can teach '{name}'{hint}")
    lessons: dict[str, Lesson] = {}
    missing: list[str] = []
    for run in runs:
        missing += ask(load(run, device), lessons, data=data, tasks=tasks, max_rows=max_rows)
    if not lessons:
        raise UserError(f"{data}: no training rows for any of {', '.join(trained)}")
    for problem in dict.fromkeys(missing):
        tell(problem)
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        # First the copies, so that a folder with training rows has the other splits too.
        copy_other_splits(evaluated_tasks(defs, {name: defs[name] for name in lessons}), data, output)
        for lesson in lessons.values():
            write(lesson, data, output, max_rows)
    rows = [(name, str(lesson.split.row_count), str(len(lesson.teachers))) for name, lesson in lessons.items()]
    print(table(("task", "rows", "teachers"), rows))
    gold = all(lesson.split.labels is not None for lesson in lessons.values())  # else soft labels are the whole loss
    print(f"\nnext: mt-dnn train RUN.yml data.dir={output} distillation.weight={0.5 if gold else 1}")


def definitions(runs: Sequence[Path], tasks: Sequence[str] | None) -> dict[str, TaskDef]:
    """The tasks of all runs, by name. If several runs have a task, the definition of the first run is taken.

    ``tasks``: the tasks that are asked for. None: all.

    Raises:
        UserError: two runs define a task that is asked for with different labels or types.
    """
    defs: dict[str, TaskDef] = {}
    for run in runs:
        for name, task in read_checkpoint(run, _tasks_of).items():
            first = defs.setdefault(name, task)
            differing = [key for key in ANSWERS if getattr(first, key) != getattr(task, key)]
            if differing and (tasks is None or name in tasks):
                raise UserError(f"{run}: {name}: {differing[0]} differs from an earlier run; leave one of them out")
    return defs


def _tasks_of(checkpoint: Path) -> dict[str, TaskDef]:
    return load_task_defs(checkpoint / "task_defs.yml")


def ask(
    model: TrainedModel,
    lessons: dict[str, Lesson],
    *,
    data: Path,
    tasks: Sequence[str] | None,
    max_rows: int | None,
) -> list[str]:
    """Adds the predictions of a trained model to the lessons of the tasks that it was trained on.

    Returns a line about files of rows that do not exist. The training rows of ``tasks`` must exist.
    """
    teachable = {name: task for name, task in model.trained.items() if task.type.answer in FORMS}
    wanted = [(task, "train") for name, task in teachable.items() if tasks is None or name in tasks]
    first = {"max_rows": max_rows, "sample": False, "carve": None, "held_out": None}
    rows = model.config.data.model_copy(update=first)
    config = model.config.model_copy(update={"data": rows, "tasks": tasks or ()})
    splits, missing = read_splits(config, wanted, model.tokenizer, data=data)
    for (name, _), split in splits.items():
        lesson = lessons.setdefault(name, Lesson(model.trained[name], split))
        lesson.teachers.append(model.decode(lesson.task, split))
    return missing


def write(lesson: Lesson, data: Path, output: Path, max_rows: int | None) -> None:
    """Writes the training rows of a task, with soft labels in one more column.

    Raises UserError if the rows have changed since the teachers have predicted.
    """
    task = lesson.task
    soft_labels = KINDS[task.task_type].decoding.soft_labels(task, lesson.split, lesson.teachers)
    source = find_rows(data, task, "train")

    def records() -> Iterator[dict[str, str]]:
        """Yields the rows, and checks at their end that the predictions are for them."""
        yield from (record for _, record in islice(read_records(source, task), max_rows))
        check_unchanged(source, lesson.split.manifest["rows_sha256"])

    # Rows may have different numbers of choices.
    names = dict.fromkeys(name for record in records() for name in as_in_files({**record, COLUMN: ""}, task))
    rows = (
        as_in_files({**record, COLUMN: json.dumps(soft_label, ensure_ascii=False)}, task)
        for record, soft_label in zip(records(), soft_labels, strict=True)
    )
    empty = dict.fromkeys(names, "")
    write_rows(output / f"{task.name}_train.tsv", ({**empty, **row} for row in rows), list(names))


def copy_other_splits(tasks: dict[str, TaskDef], data: Path, output: Path) -> None:
    """Copies the other splits of these tasks, so that a student needs only the folder ``output``."""
    for task in tasks.values():
        for split in task.splits:
            if split != "train":
                try:
                    source = find_rows(data, task, split)
                except MissingRows:
                    continue
                ending = f"{kind_of(source)}{'.gz' if source.suffix == '.gz' else ''}"
                with replacing(output / f"{task.name}_{split}.{ending}") as temporary:
                    shutil.copyfile(source, temporary)
