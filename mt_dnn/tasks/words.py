"""Sequence labelling: a class for each word of a sentence.

A word is predicted at its first token, which data_utils/windows.py marks. A sentence that is too long is cut into
windows, and each of its words is marked in one of them. So the decisions of a batch are its marked tokens, and the
decisions of a row are the words of all its windows, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from mt_dnn.tasks.base import Decoded, Kind, figures, mean_scores
from mt_dnn.tasks.classification import Classes
from mt_dnn.tasks.crf import log_marginals
from mt_dnn.tasks.heads import HeadsConfig, PooledHead


class WordClasses(Classes):
    """Softmax over the classes of each word: the decisions of a split are the words of all rows, end to end."""

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        """As for classification, with what the scores of entities need: class names, and where sentences begin."""
        return replace(super().answers(task, split, decoded), names=task.labels, bounds=_row_bounds(split))

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """The label of each word, and its probability."""
        for start, stop in pairwise(_row_bounds(split)):
            predictions, scores = decoded.predictions[start:stop], decoded.scores[start:stop]
            yield {
                "prediction": [task.labels[prediction] for prediction in predictions],
                "scores": [round(float(p), 6) for p in scores.max(axis=1)],
            }

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """For each label, its probability at each word."""
        scores = mean_scores(teachers)
        for start, stop in pairwise(_row_bounds(split)):
            by_label = scores[start:stop].T  # (C, words)
            yield {label: figures(column) for label, column in zip(task.labels, by_label, strict=True)}


def _row_bounds(split: Prepared) -> np.ndarray:
    """The words of row i, of all its windows, are the decisions ``bounds[i]:bounds[i+1]``; (rows + 1,)."""
    assert split.decisions is not None
    return split.decisions[[*split.firsts, len(split)]]


class TokenHead(PooledHead):
    """Dropout and one linear layer over each marked token."""

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C): the logits of the N marked tokens."""
        return self.linear(self.dropout(hidden[batch.marked]))


class CRFHead(TokenHead):
    """A TokenHead whose logits pass through a conditional random field over the words of each window (crf.py).

    The field adds a score for each pair of neighbouring labels (``transitions``), and the new logits of a word are
    log p(y_t | x), its label's probability summed over all labels of the other words. So losses, divergences and soft
    labels treat each word as those of a TokenHead do: training raises the probability of each right label (Kakade, Teh
    & Roweis 2002), and the prediction is the likeliest label of each word. A first or last label has no score of its
    own, because a window may start and end anywhere in a sentence.

    ``lr_factors``: the learning rate of the transitions is multiplied by H. The logit of a word is a sum over H hidden
    entries, whose weights all move by lr in an update; a transition is a single number and would hardly move.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, outputs, dropout, std)
        self.transitions = nn.Parameter(torch.zeros(outputs, outputs))
        self.lr_factors = {"transitions": float(hidden)}

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C): logarithms of the probabilities."""
        emissions = super().forward(hidden, batch, pool)
        words_each = batch.decisions_each.tolist()  # marked tokens of each window
        return log_marginals(emissions, self.transitions, words_each)


def token_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    """A CRFHead where the task asks for it, else a TokenHead."""
    head_type = CRFHead if task.crf else TokenHead
    return head_type(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


KINDS = {"sequence_labelling": Kind(token_head, WordClasses())}
