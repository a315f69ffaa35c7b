"""Entities: words that belong together and have a type. The labels of the words mark them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# A label in IOB1, IOB2, IOBES or BILOU, such as B-PER. If there is only one type, labels may leave it out: B.
ENTITY = re.compile(r"O|[BIESLU](-.+)?")


IOBES = {"L": "E", "U": "S"}  # the letters for the last and for the only word of an entity, in BILOU and in IOBES


def entity_score(
    name: Literal["precision_score", "recall_score", "f1_score"],
    labels: NDArray[Any],
    predictions: NDArray[Any],
    class_names: Sequence[str],
    bounds: NDArray[np.integer],
) -> float:
    """A score of seqeval, micro-averaged over entities. The type and all words of an entity must be right (conlleval).

    ``labels`` and ``predictions`` (N,): the class of each word. Sentence i is the words ``bounds[i]:bounds[i+1]``.
    """
    from seqeval import metrics

    gold, predicted = (_sentences(words, class_names, bounds) for words in (labels, predictions))
    return float(getattr(metrics, name)(gold, predicted, zero_division=0))


def entity_counts(
    labels: NDArray[Any], predictions: NDArray[Any], class_names: Sequence[str], bounds: NDArray[np.integer]
) -> NDArray[np.int64]:
    """(S, 3): how many entities of each sentence are right, how many predicted, how many labelled. See above."""
    from seqeval.metrics.sequence_labeling import get_entities

    sides = (_sentences(words, class_names, bounds) for words in (predictions, labels))
    found = [[set(get_entities(sentence)) for sentence in side] for side in sides]
    counts = [(len(ours & gold), len(ours), len(gold)) for ours, gold in zip(*found, strict=True)]
    return np.array(counts, dtype=np.int64)


def _sentences(words: NDArray[Any], class_names: Sequence[str], bounds: NDArray[np.integer]) -> list[list[str]]:
    """The labels of the words of each sentence, in IOB or IOBES."""
    names = [IOBES.get(name[0], name[0]) + name[1:] for name in class_names]
    return [[names[word] for word in sentence] for sentence in np.split(words, bounds[1:-1])]
