"""Regression: a number for each text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded, Decoding, Kind, figures, mean_scores
from mt_dnn.tasks.heads import pooled_head


class Values(Decoding):
    """The prediction is the single logit."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        values = np.concatenate(outputs)[:, 0].astype(np.float64)
        return Decoded(values, values)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The mean of all labels."""
        assert split.labels is not None
        values = np.full(len(split), split.labels.mean())
        return Decoded(values, values)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        yield from ({"prediction": float(value)} for value in decoded.predictions)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        yield from figures(mean_scores(teachers))


KINDS = {"regression": Kind(pooled_head, Values())}
