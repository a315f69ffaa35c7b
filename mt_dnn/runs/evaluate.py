"""Predictions and scores of a model on prepared splits, and the number that chooses the best model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.metrics import METRICS, compute
from data_utils.prepared import Prepared
from data_utils.set_aside import CARVED
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.runs.outputs import Passes, row_outputs
from mt_dnn.tasks.base import Decoded, Flat
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.losses import task_loss
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import head_owner

LOSS = "loss"  # the name of a task's loss among its scores
Splits = Mapping[tuple[str, str], Prepared]  # (task, split name) → rows
Scores = dict[str, dict[str, dict[str, Any]]]  # by task, split and metric


def predict_split(
    model: Model, task: TaskDef, owner: TaskDef, split: Prepared, passes: Passes, *, with_loss: bool = False
) -> Decoded:
    """Predicts every row of a split, in row order. All ranks share the work, and each returns all predictions.

    ``owner``: the task whose head is used. ``with_loss``: compute the task's loss too. The split must have labels.
    """
    decoding = KINDS[task.task_type].decoding

    def kept(logits: Tensor, batch: Batch) -> Tensor:
        condensed = decoding.condensed(logits, batch)
        if not with_loss:
            return condensed
        assert batch.labels is not None
        return torch.cat([condensed, task_loss(task, logits, batch.labels, reduction="none")[:, None]], dim=1)

    outputs = row_outputs(model, task.name, split, kept, passes)
    if not with_loss:
        return decoding(task, owner, split, outputs)
    if isinstance(outputs, Flat):
        losses, logits = outputs.values[:, -1].copy(), Flat(outputs.values[:, :-1], outputs.bounds)
        return replace(decoding(task, owner, split, logits), loss=float(losses.mean(dtype=np.float64)))
    loss = float(np.concatenate([output[:, -1] for output in outputs]).mean(dtype=np.float64))
    return replace(decoding(task, owner, split, [output[:, :-1] for output in outputs]), loss=loss)


def score(task: TaskDef, split: Prepared, decoded: Decoded) -> dict[str, Any]:
    """The task's metrics on a labelled split."""
    return compute(task.metrics, KINDS[task.task_type].decoding.answers(task, split, decoded))


def baseline(task: TaskDef, split: Prepared) -> dict[str, Any]:
    """For each metric, its best score of a prediction that does not depend on the texts (``Decoding.constants``)."""
    constants = KINDS[task.task_type].decoding.constants(task, split)
    found = [score(task, split, decoded) for decoded in constants]
    return {name: METRICS[name].best([scores[name] for scores in found]) for name in task.metrics}


def result(task: TaskDef, split_name: str, split: Prepared, decoded: Decoded) -> dict[str, Any]:
    """An entry of the score table: the scores on a labelled split, and the scores of a constant prediction."""
    found = {
        "task": task.name,
        "split": split_name,
        "rows": split.row_count,
        "scores": score(task, split, decoded),
        "baseline": baseline(task, split),
    }
    return {**found, "labels": list(task.labels)} if "confusion_matrix" in task.metrics else found


class Decoder:
    """Predicts splits with a model. The predictions of a split are kept until ``forget`` is called.

    The losses of tasks with a train split are computed too, where labels are known and no threshold of no answer
    changes the loss.

    ``defs``: the tasks of these splits, and the owners of the heads that they use, by name.
    """

    def __init__(self, model: Model, defs: Mapping[str, TaskDef], passes: Passes) -> None:
        self.model, self.defs, self.passes = model, defs, passes
        self.known: dict[tuple[str, str], Decoded] = {}

    def forget(self, task: str | None = None) -> None:
        """Drops the predictions of one task, or of all. Call it when the weights, or a threshold of a head, changed."""
        self.known = {key: decoded for key, decoded in self.known.items() if task is not None and key[0] != task}

    def __call__(self, splits: Splits) -> Iterator[tuple[str, str, Decoded]]:
        """Yields (task, split name, predictions) for each split given."""
        for (name, split_name), split in splits.items():
            if (name, split_name) not in self.known:
                task = self.defs[name]
                owner = self.defs[head_owner(task)]
                with_loss = task.trainable and not task.no_answer and split.labels is not None
                decoded = predict_split(self.model, task, owner, split, self.passes, with_loss=with_loss)
                if name not in self.model.heads or split_name not in (
                    *task.dev_splits,
                    CARVED,
                ):  # nothing is tuned with it
                    decoded = replace(decoded, outputs=())
                self.known[name, split_name] = decoded
            yield name, split_name, self.known[name, split_name]


def dev_scores(decoder: Decoder, splits: Splits) -> Scores:
    """Scores the labelled dev splits with the model's present weights. Returns scores by task and split.

    The scores of a split contain its ``loss``, where the decoder computes it.
    If a head can say "no answer", its threshold is first set to the best value for its dev split.
    """
    scores: Scores = {}
    decoder.forget()
    for name, split_name, decoded in decoder(splits):
        task, split = decoder.defs[name], splits[name, split_name]
        if name in decoder.model.heads:
            answers = KINDS[task.task_type].decoding.tune(decoder.model.heads[name], task, split, decoded)
            if answers is not decoded:
                decoder.forget(name)
                decoder.known[name, split_name] = decoded = answers
        loss = {} if decoded.loss is None else {LOSS: decoded.loss}
        scores.setdefault(name, {})[split_name] = {**score(task, split, decoded), **loss}
    return scores


def dev_splits(defs: Mapping[str, TaskDef], splits: Splits) -> dict[tuple[str, str], Prepared]:
    """The labelled dev splits: those that are scored while a run trains. Rows carved from train stand in for them.

    Owners of a head come first: scoring may change their threshold, which other tasks then use.
    """
    ordered = sorted(splits.items(), key=lambda item: defs[item[0][0]].head is not None)
    return {
        (name, split): prepared
        for (name, split), prepared in ordered
        if (split == CARVED if (name, CARVED) in splits else split in defs[name].dev_splits)
        and prepared.labels is not None
    }


def scalar_mean(scores: Mapping[str, Any]) -> float:
    """One number for the scores of a split. Higher is better.

    It is the mean of the metrics that are single numbers and where higher is better. If there is no such metric, it is
    minus the mean of the metrics where lower is better.
    """
    scalars = {name: value for name, value in scores.items() if name != LOSS and METRICS[name].scalar}
    values = [value for name, value in scalars.items() if not METRICS[name].lower_is_better]
    return float(np.mean(values or [-value for value in scalars.values()]))


def reads_loss(metric: str | None) -> bool:
    """Whether ``evaluation.metric`` is a loss: ``loss`` or ``<task>.loss``."""
    return metric is not None and metric.rpartition(".")[2] == LOSS


def selection_score(metric: str, scores: Scores) -> float:
    """The number that chooses the best model, a mean over splits. Higher is better, so a loss is negative.

    ``<task>.<metric>`` is one metric of a task, ``<task>`` the mean of its metrics, ``mean`` the mean over all tasks.
    ``<task>.loss`` is the loss of a task, ``loss`` the mean loss over all tasks.
    """
    if metric in ("mean", LOSS):
        return float(
            np.mean([selection_score(task if metric == "mean" else f"{task}.{LOSS}", scores) for task in scores])
        )
    task, _, name = metric.partition(".")
    sign = -1 if name == LOSS or (name and METRICS[name].lower_is_better) else 1
    return float(np.mean([sign * split[name] if name else scalar_mean(split) for split in scores[task].values()]))


def check_selection(metric: str | None, defs: Mapping[str, TaskDef]) -> None:
    """Raises UserError if ``metric`` (evaluation.metric) is not a score that a run on the tasks ``defs`` computes."""
    if metric is None:
        return
    if metric == "mean":
        for task in defs.values():
            _scalars(task)
        return
    name, _, measure = metric.partition(".")
    if reads_loss(metric):
        for task in defs.values() if metric == LOSS else [defs[name]] if name in defs else []:
            if task.no_answer:
                raise UserError(
                    f"evaluation.metric: the loss of '{task.name}' depends on its threshold of no answer; "
                    f"use {task.name}.answer_f1"
                )
        if metric == LOSS or name in defs:
            return
    if name not in defs:
        known = ", ".join(["mean", LOSS, *defs])
        raise UserError(f"evaluation.metric: no trained task '{name}' with a labelled dev split (known: {known})")
    scalars = _scalars(defs[name])
    if measure and measure not in scalars:
        raise UserError(f"evaluation.metric: '{name}' has no metric '{measure}' ({', '.join(scalars)})")


def _scalars(task: TaskDef) -> list[str]:
    """The metrics of a task that are single numbers. Raises UserError if there is none."""
    scalars = [name for name in task.metrics if METRICS[name].scalar]
    if not scalars:
        raise UserError(
            f"evaluation.metric: task '{task.name}' has no metric that is a single number; give it one in the task "
            "file, or choose a metric of another task"
        )
    return scalars
