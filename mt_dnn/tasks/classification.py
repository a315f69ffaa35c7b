"""Classification: one class for each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.scratch import scratch
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded, Decoding, Kind, flat, probabilities
from mt_dnn.tasks.heads import pooled_head


class Classes(Decoding):
    """Softmax over the classes of the head's owner.

    If the task has a label map, the probabilities of all owner's labels that are mapped to the same label are added up.
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        found = probabilities(flat(outputs))
        if task.label_map:
            mapped = scratch((len(found), len(task.labels)), np.float64)
            mapped[:] = 0
            for column, label in enumerate(owner.labels):
                mapped[:, task.labels.index(task.label_map[label])] += found[:, column]
            found = mapped
        return Decoded(found.argmax(axis=1, out=scratch(len(found), np.intp)), found)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """Each class for all decisions, the most frequent class first."""
        assert split.labels is not None
        for number in np.argsort(-np.bincount(split.labels, minlength=task.n_class), kind="stable"):
            count = len(split.labels)
            scores = np.broadcast_to(np.eye(task.n_class)[number], (count, task.n_class))
            yield Decoded(np.broadcast_to(number, count), scores)

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
