"""Finds settings that a run would not read, or could not follow, once its rows are known."""

from __future__ import annotations

from collections.abc import Mapping

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.evaluate import Splits, check_selection
from mt_dnn.tasks.run_tasks import Tasks


def check_settings(config: RunConfig, tasks: Tasks, train_splits: Mapping[str, Prepared], scored: Splits) -> None:
    """Raises UserError for a setting that the tasks and rows of a run do not allow.

    Args:
        train_splits: the training rows by task.
        scored: the labelled dev splits.
    """
    check_soft_labels(config, tasks.trained, train_splits)
    check_selection(
        config.evaluation.metric, {name: tasks.trained[name] for name, _ in scored if name in tasks.trained}
    )


def check_soft_labels(config: RunConfig, tasks: Mapping[str, TaskDef], train_splits: Mapping[str, Prepared]) -> None:
    """Raises UserError when ``distillation`` needs soft labels but the rows have none, or its temperature is unused."""
    options = config.distillation
    kinds = {tasks[name].type.answer for name, split in train_splits.items() if split.soft is not None}
    if options.weight and not kinds:
        raise UserError(
            f"{config.data.dir}: distillation.weight is {options.weight:g}, but no training rows have a soft_label; "
            "write them with mt-dnn distill, or leave distillation.weight out"
        )
    if options.temperature != 1 and kinds == {"number"}:
        raise UserError("distillation.temperature: soft labels of regression tasks have no temperature; leave it out")
