"""Scores of a model on prepared splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from data_utils.errors import UserError
from data_utils.metrics import METRICS, compute
from data_utils.prepare import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batch import collate
from mt_dnn.distributed import gathered, rank, world_size
from mt_dnn.losses import MISSING
from mt_dnn.model import Model
from mt_dnn.step import autocast
from mt_dnn.tasks import KINDS, Decoded, head_owner

Splits = Mapping[tuple[str, str], Prepared]
Scores = dict[str, dict[str, dict[str, Any]]]


def predict_split(
    model: Model,
    task: TaskDef,
    owner: TaskDef,
    split: Prepared,
    *,
    batch_size: int,
    precision: str,
    device: torch.device,
) -> Decoded:
    """Predictions for every row of a split, in row order, on all ranks, which share the work.

    Rows of like length share a batch; dropout is off.
    """
    order = np.argsort(split.lengths, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    was_training = model.training
    model.eval()
    own = batches[rank() :: world_size()]
    rounds = -(-len(batches) // world_size())
    with torch.no_grad():
        for number in range(rounds):
            rows = own[number] if number < len(own) else order[:1]  # all ranks take part in gathering split weights
            batch = collate(split, rows, task=task.name).to(device)
            with autocast(precision, device):
                logits = model(batch).float().cpu().numpy()
            parts += [(rows, logits)] if number < len(own) else []
    model.train(was_training)
    everything = [part for own in gathered(parts) for part in own]
    logits = np.full((len(order), max(output.shape[1] for _, output in everything)), MISSING, np.float32)
    for rows, output in everything:
        logits[rows, : output.shape[1]] = output
    return KINDS[task.task_type].decode(task, owner, logits)


def score(task: TaskDef, split: Prepared, decoded: Decoded) -> dict[str, Any]:
    """The task's metrics on a labelled split."""
    assert split.labels is not None
    return compute(
        task.metrics,
        predictions=decoded.predictions,
        labels=split.labels,
        scores=decoded.scores,
        n_class=task.n_class,
    )


def baseline(task: TaskDef, split: Prepared) -> dict[str, Any]:
    """What the best constant prediction scores: the split's majority class, or its mean value."""
    assert split.labels is not None
    if task.task_type == "regression":
        predictions = scores = np.full(len(split), split.labels.mean())
    else:
        predictions = np.full(len(split), np.bincount(split.labels).argmax())
        columns = task.n_class if split.groups is None else int(np.diff(split.groups).max())
        scores = np.eye(columns)[predictions]
    return score(task, split, Decoded(predictions, scores))


def result(task: TaskDef, split_name: str, split: Prepared, decoded: Decoded) -> dict[str, Any]:
    """A line of the score table: the scores on a labelled split beside those of a constant prediction."""
    place = {"task": task.name, "split": split_name, "rows": len(split)}
    return {**place, "scores": score(task, split, decoded), "baseline": baseline(task, split)}


class Decoder:
    """Predictions of a model on splits; each split is decoded once until ``forget`` says that the weights changed."""

    def __init__(
        self, model: Model, defs: Mapping[str, TaskDef], *, batch_size: int, precision: str, device: torch.device
    ) -> None:
        self.model, self.defs = model, defs
        self.options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "device": device}
        self.known: dict[tuple[str, str], Decoded] = {}

    def forget(self) -> None:
        """The weights have changed."""
        self.known = {}

    def __call__(self, splits: Splits) -> Iterator[tuple[str, str, Decoded]]:
        """Yields (task, split name, predictions) for each split given."""
        for (name, split_name), split in splits.items():
            if (name, split_name) not in self.known:
                task = self.defs[name]
                owner = self.defs[head_owner(task)]
                self.known[name, split_name] = predict_split(self.model, task, owner, split, **self.options)
            yield name, split_name, self.known[name, split_name]


def dev_splits(defs: Mapping[str, TaskDef], splits: Splits) -> dict[tuple[str, str], Prepared]:
    """The labelled dev splits: those that are scored while training."""
    return {
        (name, split): prepared
        for (name, split), prepared in splits.items()
        if split in defs[name].dev_splits and prepared.labels is not None
    }


def scalar_mean(scores: Mapping[str, Any]) -> float:
    """Mean of the metrics that are single numbers."""
    values = [value for name, value in scores.items() if METRICS[name].scalar]
    return float(np.mean(values))


def selection_score(metric: str, scores: Scores) -> float:
    """The number that picks the best model: ``mean``, ``<task>`` or ``<task>.<metric>``, averaged over splits."""
    task, _, name = metric.partition(".")
    if metric != "mean":
        return float(np.mean([split[name] if name else scalar_mean(split) for split in scores[task].values()]))
    return float(np.mean([selection_score(task, scores) for task in scores]))


def check_selection(metric: str, defs: Mapping[str, TaskDef]) -> None:
    """Raises UserError unless the metric names something the run will compute; ``defs`` are the tasks it scores."""
    if metric == "mean":
        return
    name, _, measure = metric.partition(".")
    if name not in defs:
        known = ", ".join(["mean", *defs])
        raise UserError(f"evaluation.metric: no trained task '{name}' with a labelled dev split ({known})")
    scalars = [known for known in defs[name].metrics if METRICS[known].scalar]
    if not scalars:
        raise UserError(f"evaluation.metric: task '{name}' has no metric that is a single number")
    if measure and measure not in scalars:
        raise UserError(f"evaluation.metric: '{name}' has no metric '{measure}' ({', '.join(scalars)})")
