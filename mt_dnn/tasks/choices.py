"""Multiple choice and cloze: which of several texts is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor, nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, Kind, figures, mean_scores, mean_size
from mt_dnn.tasks.heads import HeadsConfig, PooledHead
from mt_dnn.tasks.losses import MISSING


class Choices(Decoding):
    """Softmax over the choices of a row. Predictions files number the choices from 1."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        logits = np.full((len(outputs), max(output.shape[1] for output in outputs)), MISSING, np.float32)
        for row, output in enumerate(outputs):
            logits[row, : output.shape[1]] = output
        probabilities = softmax(logits.astype(np.float64), axis=1)
        return Decoded(probabilities.argmax(axis=1), probabilities)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The number that is right most often."""
        assert split.labels is not None and split.groups is not None
        predictions = np.full(len(split), np.bincount(split.labels).argmax())
        return Decoded(predictions, np.eye(int(np.diff(split.groups).max()))[predictions])

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {
                str(number): round(float(p), 6) for number, p in enumerate(scores, 1) if p > 0
            }  # 0: no such choice
            yield {"prediction": str(int(prediction) + 1), "scores": named}

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        assert split.groups is not None
        for choices, scores in zip(np.diff(split.groups), mean_scores(teachers), strict=True):
            yield figures(scores[:choices])


class Cloze(Choices):
    """The choice that fills the gap. Predictions are texts, because several choices may name the right answer."""

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The number that is right most often. In rows with fewer choices, the number of the last choice."""
        assert split.groups is not None
        constant = super().constant(task, split)
        return replace(constant, predictions=np.minimum(constant.predictions, np.diff(split.groups) - 1))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        assert split.candidates is not None
        candidates, right = split.candidates.texts.to_pylist(), split.candidates.right.to_pylist()
        gold = np.empty(len(right), object)
        gold[:] = [[texts[number] for number in numbers] for texts, numbers in zip(candidates, right, strict=True)]
        return Answers(self._texts(split, decoded), gold, decoded.scores, n_class=1)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for text, record in zip(self._texts(split, decoded), super().records(task, split, decoded), strict=True):
            yield {**record, "prediction": text}

    def _texts(self, split: Prepared, decoded: Decoded) -> np.ndarray:
        """The text of the predicted choice of each row."""
        assert split.candidates is not None
        pairs = zip(split.candidates.texts.to_pylist(), decoded.predictions, strict=True)
        return np.array([texts[prediction] for texts, prediction in pairs], object)


class ChoiceHead(PooledHead):
    """One score for each choice of an example. Each choice is a sequence."""

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)

    def forward(self, pooled: Tensor, batch: Batch) -> Tensor:
        """(S, H) → logits (B, C), MISSING where an example has fewer than C choices."""
        return batch.by_example(super().forward(pooled, batch)[:, 0], MISSING)


def choice_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    return ChoiceHead(encoder.hidden_size, dropout, encoder.initializer_range)


def _choices_each(task: TaskDef, split: Prepared) -> float:
    return mean_size(split.groups)


KINDS = {
    "multiple_choice": Kind(choice_head, Choices(), _choices_each),
    "cloze": Kind(choice_head, Cloze(), _choices_each),
}
