"""Sequence labelling: a class for each word of a sentence.

A word is predicted at its first token, which data_utils/windows.py marks. A long sentence is cut into overlapping
windows, and each word is marked in exactly one of them. A decision is one word: a batch has one decision for each
marked token, a row has one for each word of its sentence, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """Softmax over the classes of each word.

    The predictions of a split are one array: the words of row 0, then the words of row 1, and so on.
    """

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        """As for classification, plus what entity metrics need: class names, and where each sentence begins."""
        return replace(super().answers(task, split, decoded), names=task.labels, bounds=_row_bounds(split))

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Yields for each row the predicted label of each word, and the probability of that label."""
        for start, stop in pairwise(_row_bounds(split)):
            predictions, scores = decoded.predictions[start:stop], decoded.scores[start:stop]
            yield {
                "prediction": [task.labels[prediction] for prediction in predictions],
                "scores": [round(float(p), 6) for p in scores.max(axis=1)],
            }

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        """Yields for each row the right label of each word."""
        words = list(super().gold(task, split))
        yield from (words[start:stop] for start, stop in pairwise(_row_bounds(split)))

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        """Without scores, because the files have only those of the predicted labels."""
        predictions, labels = (
            np.array([task.labels.index(label) for record in records for label in record[key]], np.int64)
            for key in ("prediction", "gold")
        )
        bounds = np.cumsum([0, *(len(record["gold"]) for record in records)])
        return Answers(predictions, labels, None, n_class=task.n_class, names=task.labels, bounds=bounds)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """Yields for each row {label: its probabilities, one per word}, the mean over the teachers."""
        scores = mean_scores(teachers)
        for start, stop in pairwise(_row_bounds(split)):
            by_label = scores[start:stop].T  # (C, words)
            yield {label: figures(column) for label, column in zip(task.labels, by_label, strict=True)}


def _row_bounds(split: Prepared) -> np.ndarray:
    """The bounds of the rows, (rows + 1,): the words of row i are the decisions ``bounds[i]:bounds[i+1]``."""
    assert split.decisions is not None
    return split.decisions[[*split.firsts, len(split)]]


class TokenHead(PooledHead):
    """Dropout and one linear layer over each marked token, above the ``layers`` of the encoder's family."""

    reads_tokens = True

    def __init__(self, layers: nn.Module, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, outputs, dropout, std)
        self.layers = layers

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Final hidden states (T, H) → logits (N, C) of the N marked tokens."""
        assert batch.marked is not None
        return self.linear(self.dropout(self.layers(hidden.index_select(0, batch.marked))))


class CRFHead(TokenHead):
    """A TokenHead followed by a conditional random field over the words marked in each window (crf.py).

    The field adds a score for each pair of neighbouring labels (``transitions``). The new logit of label c at word t is
    log p(y_t = c | x), where the labels of the other words are summed out. So losses, divergences and soft labels treat
    each word as with a TokenHead. Training raises the probability of each right label (Kakade, Teh & Roweis 2002). The
    prediction is the most probable label of each word. There is no score for the first or last label, because a window
    may begin and end inside a sentence.

    ``lr_factors``: factors on the learning rate, by parameter. ``transitions`` gets H. A logit sums H weights, and each
    moves by about lr in an update. A transition is one number, so with the same lr it would hardly move.
    """

    def __init__(self, layers: nn.Module, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(layers, hidden, outputs, dropout, std)
        self.transitions = nn.Parameter(torch.zeros(outputs, outputs))
        self.lr_factors = {"transitions": float(hidden)}

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Final hidden states (T, H) → log p(y_t = c | x), (N, C), at the N marked tokens."""
        emissions = super().forward(hidden, batch)
        assert batch.decisions is not None
        return log_marginals(emissions, self.transitions, batch.decisions, batch.most_decisions)


def token_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    """Builds a CRFHead if the task sets ``crf``, else a TokenHead."""
    head_type = CRFHead if task.crf else TokenHead
    return head_type(encoder.token_layers(), encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


# kinds.py collects these.
KINDS = {"sequence_labelling": Kind(token_head, WordClasses())}
