"""What a user may choose about a trained model when it is loaded: its precision, batches and further tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from data_utils.errors import UserError, did_you_mean
from data_utils.task_def import TaskDef
from mt_dnn.encoders.int8 import INT8, quantize_blocks
from mt_dnn.runs.build import check_precision
from mt_dnn.runs.config import RunConfig
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import HEAD_FIELDS
from mt_dnn.training.precision import AUTOCAST_TYPES


def with_batch_size(config: RunConfig, size: int | None) -> RunConfig:
    """The configuration with another ``evaluation.batch_size``. None: as it is.

    Raises:
        UserError: it is no size of a batch.
    """
    if size is None:
        return config
    if type(size) is not int or size < 1:
        raise UserError(f"batch_size: write a whole number from 1 on (got {size!r})")
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch_size": size})})


def with_precision(config: RunConfig, model: Model, precision: str | None, device: torch.device) -> RunConfig:
    """The configuration with another precision of forward passes. For ``int8`` the model is changed too, in place.

    Raises:
        UserError: the precision is unknown, or the device does not have it.
    """
    if precision is None:  # what the run was trained with, perhaps on another device
        trained = config.train.precision
        precision = "fp32" if trained == "tf32" and device.type == "cpu" else trained
    known = [*AUTOCAST_TYPES, INT8]
    if precision not in known:
        raise UserError(f"precision: no '{precision}'{did_you_mean(precision, known)} (known: {', '.join(known)})")
    if precision == INT8:
        if device.type != "cpu":
            raise UserError(f"precision: int8 runs on a CPU only, not on {device}; choose the device cpu or bf16")
        quantize_blocks(model.encoder)
        precision = "fp32"  # of everything else
    check_precision(precision, device, "precision")
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def check_given(given: Mapping[str, TaskDef], trained: Mapping[str, TaskDef], location: Path | str) -> None:
    """Raises UserError when no given task reads a head of the run, or a task of the run has another head here."""
    if not given:
        raise UserError(
            f"{location}: no task here fits the run; use one of its tasks ({', '.join(trained)}) "
            "or set head: to one of them"
        )
    for name, task in given.items():
        for key in HEAD_FIELDS if name in trained else ():
            if getattr(task, key) != getattr(trained[name], key):
                raise UserError(
                    f"{location}: {name}: {key} differs from the trained run; "
                    "copy its value from the run's task_defs.yml"
                )
