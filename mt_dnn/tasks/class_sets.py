"""Multi-label classification: any number of classes for each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, Kind, flat, probabilities
from mt_dnn.tasks.heads import HeadsConfig, PooledHead


class ClassSets(Decoding):
    """Predicts the classes whose probability is above one half. Predictions and scores of N rows are (N, C).

    The logits of a row are (C, 2), because each class is a decision between no and yes.
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        found = probabilities(flat(outputs))[:, 1].reshape(len(outputs), -1)
        return Decoded((found > 0.5).astype(np.int64), found)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """The most frequent set of classes, then the k most frequent classes for each k.

        Among sets of k classes, the most frequent classes have the best micro-averaged F1. All classes have the best
        macro-averaged F1, because a class that is never predicted has F1 0.
        """
        gold = self._gold(task, split)
        sets, counts = np.unique(gold, axis=0, return_counts=True)
        frequent = np.argsort(-gold.sum(0), kind="stable")
        first = (np.isin(range(task.n_class), frequent[:k]) for k in range(1, task.n_class + 1))
        for chosen in (sets[counts.argmax()], *first):
            predictions = np.tile(chosen.astype(gold.dtype), (len(gold), 1))
            yield Decoded(predictions, predictions.astype(float))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, self._gold(task, split), decoded.scores, n_class=task.n_class)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for chosen, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {label: round(float(p), 6) for label, p in zip(task.labels, scores, strict=True)}
            labels = [label for label, is_chosen in zip(task.labels, chosen, strict=True) if is_chosen]
            yield {"prediction": labels, "scores": named}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        for right in self._gold(task, split):
            yield [label for label, is_right in zip(task.labels, right, strict=True) if is_right]

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        predictions, labels = (
            np.array([[int(label in record[key]) for label in task.labels] for record in records])
            for key in ("prediction", "gold")
        )
        scores = np.array([[record["scores"][label] for label in task.labels] for record in records])
        return Answers(predictions, labels, scores, n_class=task.n_class)

    def _gold(self, task: TaskDef, split: Prepared) -> np.ndarray:
        """1 for each right class of each row, else 0, (N, C)."""
        assert split.labels is not None
        return split.labels.reshape(-1, task.n_class)


class MultiLabelHead(PooledHead):
    """A decision between no and yes for each class."""

    def forward(self, pooled: Tensor, batch: Batch) -> Tensor:
        """(S, H) → logits (S·C, 2).

        The logit of no is 0, so that cross-entropy is binary cross-entropy.
        """
        yes = super().forward(pooled, batch).flatten()
        return torch.stack([torch.zeros_like(yes), yes], dim=1)


def multi_label_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    return MultiLabelHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


KINDS = {"multi_label": Kind(multi_label_head, ClassSets(), lambda task, split: 2.0)}
