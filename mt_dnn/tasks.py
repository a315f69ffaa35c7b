"""KINDS: what each task type is, one entry per type: its head and how logits become predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from data_utils.errors import UserError, did_you_mean
from data_utils.task_def import TaskDef
from mt_dnn.heads import ChoiceHead, PooledHead


@dataclass(frozen=True)
class Decoded:
    """A split in row order. Predictions (N,): classes, choices, values; scores: probabilities (N, C), values (N,)."""

    predictions: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Kind:
    """A task type: ``head(task, hidden, dropout, std)`` builds its head, ``decode(task, owner, logits)`` reads it."""

    head: Callable[[TaskDef, int, float, float], nn.Module]
    decode: Callable[[TaskDef, TaskDef, np.ndarray], Decoded]


def pooled_head(task: TaskDef, hidden: int, dropout: float, std: float) -> nn.Module:
    return PooledHead(hidden, task.n_class, dropout, std)


def choice_head(task: TaskDef, hidden: int, dropout: float, std: float) -> nn.Module:
    return ChoiceHead(hidden, dropout, std)


def decode_classes(task: TaskDef, owner: TaskDef, logits: np.ndarray) -> Decoded:
    """Softmax over the owner's classes (N, C); where the task maps labels, their probabilities are summed."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    if task.label_map:
        mapped = np.zeros((len(logits), len(task.labels)))
        for column, label in enumerate(owner.labels):
            mapped[:, task.labels.index(task.label_map[label])] += probabilities[:, column]
        probabilities = mapped
    return Decoded(probabilities.argmax(axis=1), probabilities)


def decode_values(task: TaskDef, owner: TaskDef, logits: np.ndarray) -> Decoded:
    """The single output as it is: (N, 1) → (N,)."""
    values = logits[:, 0].astype(np.float64)
    return Decoded(values, values)


KINDS: Mapping[str, Kind] = {
    "classification": Kind(head=pooled_head, decode=decode_classes),
    "regression": Kind(head=pooled_head, decode=decode_values),
    "multiple_choice": Kind(head=choice_head, decode=decode_classes),
}


def head_owner(task: TaskDef) -> str:
    """Name of the task whose head this task reads."""
    return task.head or task.name


def training_tasks(defs: Mapping[str, TaskDef], wanted: tuple[str, ...] | None, place: str) -> dict[str, TaskDef]:
    """The tasks of a run in the order asked for; default: every task of the file with a train split.

    Raises:
        UserError: a task that does not exist, is named twice, has no train split, or asks for a head we lack.
    """
    names = wanted or tuple(name for name, task in defs.items() if task.trainable)
    for name in names:
        if name not in defs:
            hint = did_you_mean(name, defs) or f" (known: {', '.join(defs)})"
            raise UserError(f"{place}: tasks: no task '{name}'{hint}")
        if not defs[name].trainable:
            raise UserError(f"{place}: {name}: has no train split, so it cannot be a training task")
        if hasattr(nn.ModuleDict, name):
            raise UserError(f"{place}: {name}: a training task cannot have this name, torch uses it; choose another")
        if defs[name].enable_san:
            raise UserError(
                f"{place}: {name}: enable_san: the SAN head does not exist in this version; set it to false"
            )
    if len(set(names)) < len(names):
        raise UserError(f"{place}: tasks: a task is named twice: {', '.join(names)}")
    return {name: defs[name] for name in names}


def evaluated_tasks(defs: Mapping[str, TaskDef], trained: Mapping[str, TaskDef]) -> dict[str, TaskDef]:
    """The trained tasks and every task of the file that reads one of their heads."""
    return {name: task for name, task in defs.items() if name in trained or task.head in trained}
