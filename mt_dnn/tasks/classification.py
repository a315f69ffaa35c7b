"""Classification: one class for each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded, Decoding, Kind
from mt_dnn.tasks.heads import pooled_head


class Classes(Decoding):
    """Softmax over the classes of the head's owner.

    If the task has a label map, the probabilities of all owner's labels that are mapped to the same label are added up.
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        probabilities = softmax(np.concatenate(outputs).astype(np.float64), axis=1)
        if task.label_map:
            mapped = np.zeros((len(probabilities), len(task.labels)))
            for column, label in enumerate(owner.labels):
                mapped[:, task.labels.index(task.label_map[label])] += probabilities[:, column]
            probabilities = mapped
        return Decoded(probabilities.argmax(axis=1), probabilities)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """Each class for all decisions, the most frequent class first."""
        assert split.labels is not None
        for number in np.argsort(-np.bincount(split.labels, minlength=task.n_class), kind="stable"):
            predictions = np.full(len(split.labels), number)
            yield Decoded(predictions, np.eye(task.n_class)[predictions])

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {label: round(float(p), 6) for label, p in zip(task.labels, scores, strict=True)}
            yield {"prediction": task.labels[int(prediction)], "scores": named}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        assert split.labels is not None
        yield from (task.labels[number] for number in split.labels)

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        predictions, labels = (
            np.array([task.labels.index(record[key]) for record in records]) for key in ("prediction", "gold")
        )
        scores = np.array([[record["scores"][label] for label in task.labels] for record in records])
        return Answers(predictions, labels, scores, n_class=task.n_class)


KINDS = {"classification": Kind(pooled_head, Classes())}
