"""Sequence labelling: a class for each word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, figures, mean_scores
from mt_dnn.tasks.classification import Classes
from mt_dnn.tasks.crf import log_marginals
from mt_dnn.tasks.heads import HeadsConfig, PooledHead


class WordClasses(Classes):
    """A class for each word; the windows of a sentence are joined again."""

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        own = super().answers(task, split, decoded)
        return Answers(own.predictions, own.labels, own.scores, own.n_class, task.labels, _bounds(split))

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        bounds = _bounds(split)
        for start, stop in pairwise(bounds):
            predictions, scores = decoded.predictions[start:stop], decoded.scores[start:stop]
            yield {
                "prediction": [task.labels[prediction] for prediction in predictions],
                "scores": [round(float(p), 6) for p in scores.max(axis=1)],
            }

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        scores = mean_scores(teachers)
        for start, stop in pairwise(_bounds(split)):
            yield {label: figures(own) for label, own in zip(task.labels, scores[start:stop].T, strict=True)}


def _bounds(split: Prepared) -> np.ndarray:
    """Which decisions belong to each row, whatever its windows."""
    assert split.decisions is not None
    return split.decisions[[*split.firsts, len(split)]]


class TokenHead(PooledHead):
    """Classes for each token that is marked."""

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C)."""
        return self.linear(self.dropout(hidden[batch.marked]))


class CRFHead(TokenHead):
    """Classes for each token that is marked, read together with those of its neighbours.

    Logits are log p(y_t | x), so losses, divergences and soft labels are those of single words as without transitions:
    training raises the probability of each right label (Kakade, Teh & Roweis 2002), and the answer is the likeliest
    label of each word. There are no scores of a first or last label, as windows of a sentence may start anywhere.
    ``lr_factors``: a word's scores are sums over H entries that all move by lr; at that rate transitions hardly would.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, outputs, dropout, std)
        self.transitions = nn.Parameter(torch.zeros(outputs, outputs))
        self.lr_factors = {"transitions": float(hidden)}

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C): logarithms of the probabilities."""
        emissions = super().forward(hidden, batch, pool)
        return log_marginals(emissions, self.transitions, batch.decisions_each.tolist())


def token_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    kind = CRFHead if task.crf else TokenHead
    return kind(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)
