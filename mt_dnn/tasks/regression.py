"""Regression: a number for each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.scratch import scratch
from data_utils.task_def import TaskDef
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, Kind, flat, mean_scores
from mt_dnn.tasks.heads import HeadsConfig, pooled_head
from mt_dnn.tasks.units import Units


class Values(Decoding):
    """The prediction is the single output, in the user's units, moved to the nearest number of the value range.

    Metrics read the output itself: where several outputs leave the range, their order says more than its end.
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        logits = flat(outputs)[:, 0]
        values = scratch(len(logits), np.float64)
        values[:] = logits
        if task.value_range is None:
            return Decoded(values, values)
        return Decoded(values.clip(*task.value_range, out=scratch(len(values), np.float64)), values)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """The mean of all labels. Correlations are 0 for every constant."""
        assert split.labels is not None
        values = np.broadcast_to(split.labels.mean(), len(split))
        yield Decoded(values, values)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """An output that is outside of the range has a key for itself."""
        for prediction, output in zip(decoded.predictions, decoded.scores, strict=True):
            further = {} if prediction == output else {"output": float(output)}
            yield {"prediction": float(prediction), **further}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        assert split.labels is not None
        yield from (float(value) for value in split.labels)

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        outputs = np.array([record.get("output", record["prediction"]) for record in records], float)
        return Answers(outputs, np.array([record["gold"] for record in records], float), outputs, n_class=1)

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return replace(super().answers(task, split, decoded), predictions=decoded.scores)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        for scores in mean_scores(teachers):
            yield float(scores)


def value_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    """A head with one output, and its units."""
    head = pooled_head(task, encoder, dropout, config)
    head.units = Units()
    return head


KINDS = {"regression": Kind(value_head, Values())}
