"""A trained run: its model, tasks and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, did_you_mean
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs.build import build_model, build_tokenizer, choose_device
from mt_dnn.runs.checkpoint import find_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.evaluate import predict_split
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks, evaluated_tasks, head_owner

# what a head is
HEAD_FIELDS = ("task_type", "data_format", "labels", "enable_san", "crf", "head", "value_range", "no_answer")


def load_trained(path: Path, task_defs: Path | None = None) -> tuple[RunConfig, Tasks, Any, Model]:
    """Configuration, tasks, tokenizer and model of a trained run; ``task_defs`` may add tasks or score them otherwise.

    Raises:
        UserError: no checkpoint there, or a damaged one; ``task_defs`` that do not fit its heads.
    """
    checkpoint = find_checkpoint(path)
    config = load_config(checkpoint / "config.yml")
    own = load_task_defs(checkpoint / "task_defs.yml")
    trained = {name: task for name, task in own.items() if task.trainable}
    given = evaluated_tasks(load_task_defs(task_defs), trained) if task_defs else {}
    if task_defs:
        check_given(given, trained, task_defs)
    tasks = Tasks(trained, evaluated_tasks({**own, **given}, trained))
    tokenizer = build_tokenizer(config, checkpoint)
    model = build_model(config, tasks, tokenizer, checkpoint).to(choose_device(config.device))
    return config, tasks, tokenizer, model


def check_given(given: Mapping[str, TaskDef], trained: Mapping[str, TaskDef], location: Path) -> None:
    """Raises UserError when no task reads a head of the run, or one is defined so that its own head does not fit."""
    if not given:
        raise UserError(
            f"{location}: none of its tasks is one of the run ({', '.join(trained)}) or has the head of one"
        )
    for name, task in given.items():
        for field in HEAD_FIELDS if name in trained else ():
            if getattr(task, field) != getattr(trained[name], field):
                raise UserError(
                    f"{location}: {name}: {field}: the run was trained with another; give what its task_defs.yml has"
                )


def predict_rows(loaded: tuple[RunConfig, Tasks, Any, Model], task: TaskDef, split: Prepared) -> Any:
    config, tasks, _, model = loaded
    return predict_split(
        model,
        task,
        tasks.trained[head_owner(task)],
        split,
        batch_size=config.evaluation.batch_size,
        precision=config.train.precision,
        device=next(model.parameters()).device,
    )


def known_task(name: str, tasks: Tasks, run: Path) -> TaskDef:
    """The task of this name, else a UserError that lists what the run knows."""
    if name not in tasks.evaluated:
        hint = did_you_mean(name, tasks.evaluated) or f" (known: {', '.join(tasks.evaluated)})"
        raise UserError(f"{run}: no task '{name}'{hint}")
    return tasks.evaluated[name]
