"""The tasks of a run: which tasks it trains and which it evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from data_utils.errors import UserError, did_you_mean
from data_utils.task_def import TaskDef

# The fields of a task definition that decide what its head is.
HEAD_FIELDS = ("task_type", "data_format", "labels", "enable_san", "crf", "head", "value_range", "no_answer")


@dataclass(frozen=True)
class Tasks:
    """The tasks of a run. ``evaluated``: the trained tasks, and all other tasks that use the head of a trained task."""

    trained: dict[str, TaskDef]
    evaluated: dict[str, TaskDef]

    @property
    def splits(self) -> list[tuple[TaskDef, str]]:
        """(task, split name) of all splits that the run reads. Train splits are read only for tasks that it trains."""
        tasks = self.evaluated.values()
        return [
            (task, split) for task in tasks for split in task.splits if split != "train" or task.name in self.trained
        ]


def head_owner(task: TaskDef) -> str:
    """The name of the task whose head this task uses, often the task itself."""
    return task.head or task.name


def check_heads(trained: Mapping[str, TaskDef], location: str) -> None:
    """Raises UserError for a training task whose head belongs to a task that is not trained."""
    for name, task in trained.items():
        if head_owner(task) not in trained:
            raise UserError(
                f"{location}: {name}: trains the head of '{task.head}', which has to be a training task too"
            )


def training_tasks(defs: Mapping[str, TaskDef], wanted: tuple[str, ...] | None, location: str) -> dict[str, TaskDef]:
    """The tasks that a run trains: the ``wanted`` tasks in this order. Default: all tasks with a train split.

    Raises:
        UserError: a task does not exist, is named twice, has no train split, has a name that torch uses, or uses the
            head of a task that is not trained.
    """
    names = wanted or tuple(name for name, task in defs.items() if task.trainable)
    for name in names:
        if name not in defs:
            hint = did_you_mean(name, defs) or f" (known: {', '.join(defs)})"
            raise UserError(f"{location}: tasks: no task '{name}'{hint}")
        if not defs[name].trainable:
            raise UserError(f"{location}: {name}: has no train split, so it cannot be a training task")
        if hasattr(nn.ModuleDict, name):
            raise UserError(f"{location}: {name}: a training task cannot have this name, torch uses it; choose another")
    if len(set(names)) < len(names):
        raise UserError(f"{location}: tasks: a task is named twice: {', '.join(names)}")
    trained = {name: defs[name] for name in names}
    check_heads(trained, f"{location}: tasks")
    return trained


def evaluated_tasks(defs: Mapping[str, TaskDef], trained: Mapping[str, TaskDef]) -> dict[str, TaskDef]:
    """The trained tasks, and all other tasks that use the head of a trained task."""
    return {name: task for name, task in defs.items() if name in trained or task.head in trained}
