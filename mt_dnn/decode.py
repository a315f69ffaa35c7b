"""From logits to answers, one class per kind of answer: what a row's logits say, what is right, what a constant scores.

``outputs`` are the logits of each row of a prepared split, or of each of its windows: (decisions, options) each.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from data_utils.metrics import Answers, best_f1
from data_utils.prepare import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batch import Batch
from mt_dnn.losses import MISSING

LONGEST_ANSWER = 30  # tokens
N_BEST = 20


@dataclass(frozen=True)
class Decoded:
    """A split of N decisions in row order; ``predictions`` (N,): classes, choices, values or texts; (N, C): class sets.

    ``scores``: probabilities (N, C), values (N,), or of a span task how much likelier no answer is than the text, in
    logits (N,). ``details``: what else a line of predictions says, by row.
    """

    predictions: np.ndarray
    scores: np.ndarray
    details: Sequence[Any] = ()


class Decoding(ABC):
    """How the logits of a task type are read."""

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        """What is kept of the logits of a batch, a row for each."""
        return logits

    @abstractmethod
    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        """The answers; ``owner`` is the task whose head gave the logits."""

    @abstractmethod
    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The best answer that is the same for every decision of a labelled split."""

    @abstractmethod
    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Prediction and scores of each row."""

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """The soft label of each row as data_utils/soft.py reads it: the mean of what teachers think.

        Q = avg(Q_1, …, Q_K) (Liu et al. 2019b, section 3).
        """
        for scores in mean_scores(teachers):
            yield dict(zip(task.labels, figures(scores), strict=True))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        """What the metrics compare, of a labelled split."""
        assert split.labels is not None
        return Answers(
            decoded.predictions, split.labels, decoded.scores, n_class=task.n_class, questions=split.questions
        )


class Classes(Decoding):
    """Softmax over the owner's classes; where the task maps labels, their probabilities are summed."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        probabilities = softmax(np.concatenate(outputs).astype(np.float64), axis=1)
        if task.label_map:
            mapped = np.zeros((len(probabilities), len(task.labels)))
            for column, label in enumerate(owner.labels):
                mapped[:, task.labels.index(task.label_map[label])] += probabilities[:, column]
            probabilities = mapped
        return Decoded(probabilities.argmax(axis=1), probabilities)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        assert split.labels is not None
        predictions = np.full(len(split.labels), np.bincount(split.labels).argmax())
        return Decoded(predictions, np.eye(task.n_class)[predictions])

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {label: round(float(p), 6) for label, p in zip(task.labels, scores, strict=True)}
            yield {"prediction": task.labels[int(prediction)], "scores": named}


class OrderedClasses(Classes):
    """The median: the class at which half of the probability is reached, nearest to the others on average."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        scores = super().__call__(task, owner, split, outputs).scores
        return Decoded((scores.cumsum(axis=1) < 0.5).sum(axis=1).clip(max=task.n_class - 1), scores)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The median of all labels."""
        assert split.labels is not None
        predictions = np.full(len(split.labels), np.sort(split.labels)[len(split.labels) // 2])
        return Decoded(predictions, np.eye(task.n_class)[predictions])


class MaskedTokens(Decoding):
    """The likeliest token behind each mask. Of the logits (N, V) only (N, 3) is kept: log p of the right token, the
    likeliest token, the right one. ``details`` are the right tokens, by row.
    """

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.labels is not None
        right = torch.log_softmax(logits.float(), dim=1).gather(1, batch.labels[:, None])[:, 0]
        return torch.stack([right, logits.argmax(dim=1).float(), batch.labels.float()], dim=1)

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        found = np.concatenate(outputs)
        return Decoded(found[:, 1].astype(np.int64), found[:, 0], [own[:, 2].astype(np.int64) for own in outputs])

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The frequencies of the tokens that are guessed: no distribution that is the same everywhere does better."""
        gold = [self._gold(split, row) for row in range(len(split))]
        tokens, numbers, counts = np.unique(np.concatenate(gold), return_inverse=True, return_counts=True)
        frequent = np.full(len(numbers), tokens[counts.argmax()])
        return Decoded(frequent, np.log(counts / counts.sum())[numbers], gold)

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, np.concatenate(decoded.details), decoded.scores, n_class=1)

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Token ids, and log p of the right ones."""
        bounds = np.cumsum([0, *map(len, decoded.details)])
        for right, (start, stop) in zip(decoded.details, pairwise(bounds), strict=True):
            scores = [round(float(score), 6) for score in decoded.scores[start:stop]]
            yield {"prediction": decoded.predictions[start:stop].tolist(), "right": right.tolist(), "scores": scores}

    def _gold(self, split: Prepared, row: int) -> np.ndarray:
        places = split.masked(row, seed=0, place=row)[0]
        return split.tokens[split.offsets[row] :][places]


class WordClasses(Classes):
    """A class for each word; the windows of a sentence are joined again."""

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        own = super().answers(task, split, decoded)
        return Answers(own.predictions, own.labels, own.scores, own.n_class, task.labels, _bounds(split))

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
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


class ClassSets(Decoding):
    """The classes whose probability is above one half, of each row: predictions and scores are (N, C)."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        probabilities = softmax(np.stack(outputs).astype(np.float64), axis=2)[:, :, 1]
        return Decoded((probabilities > 0.5).astype(np.int64), probabilities)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The k most frequent classes, for the k with the best micro-averaged F1."""
        gold = self._gold(task, split)
        frequent = np.argsort(-gold.sum(0), kind="stable")
        hits = np.cumsum(gold.sum(0)[frequent])
        best = int(np.argmax(2 * hits / (len(gold) * np.arange(1, task.n_class + 1) + gold.sum())))
        predictions = np.zeros_like(gold)
        predictions[:, frequent[: best + 1]] = 1
        return Decoded(predictions, predictions.astype(float))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, self._gold(task, split), decoded.scores, n_class=task.n_class)

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for chosen, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {label: round(float(p), 6) for label, p in zip(task.labels, scores, strict=True)}
            yield {
                "prediction": [label for label, own in zip(task.labels, chosen, strict=True) if own],
                "scores": named,
            }

    def _gold(self, task: TaskDef, split: Prepared) -> np.ndarray:
        assert split.labels is not None
        return split.labels.reshape(-1, task.n_class)


class Values(Decoding):
    """The single output as it is."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        values = np.concatenate(outputs)[:, 0].astype(np.float64)
        return Decoded(values, values)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        assert split.labels is not None
        values = np.full(len(split), split.labels.mean())
        return Decoded(values, values)

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        yield from ({"prediction": float(value)} for value in decoded.predictions)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        yield from figures(mean_scores(teachers))


class Choices(Decoding):
    """Softmax over the choices of a row; they are numbered from 1 in lines."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        logits = np.full((len(outputs), max(output.shape[1] for output in outputs)), MISSING, np.float32)
        for row, output in enumerate(outputs):
            logits[row, : output.shape[1]] = output
        probabilities = softmax(logits.astype(np.float64), axis=1)
        return Decoded(probabilities.argmax(axis=1), probabilities)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        assert split.labels is not None and split.groups is not None
        predictions = np.full(len(split), np.bincount(split.labels).argmax())
        return Decoded(predictions, np.eye(int(np.diff(split.groups).max()))[predictions])

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {str(number): round(float(p), 6) for number, p in enumerate(scores, 1) if p > 0}  # 0: not there
            yield {"prediction": str(int(prediction) + 1), "scores": named}

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        assert split.groups is not None
        for choices, scores in zip(np.diff(split.groups), mean_scores(teachers), strict=True):
            yield figures(scores[:choices])


class Cloze(Choices):
    """The choice that fills the gap; scored by its text, as the same answer may have several names."""

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The number that is right most often, or the last choice where there are fewer."""
        assert split.groups is not None
        constant = super().constant(task, split)
        return replace(constant, predictions=np.minimum(constant.predictions, np.diff(split.groups) - 1))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        assert split.candidates is not None
        candidates, right = split.candidates.texts.to_pylist(), split.candidates.right.to_pylist()
        gold = np.empty(len(right), object)
        gold[:] = [[texts[number] for number in own] for texts, own in zip(candidates, right, strict=True)]
        return Answers(self._texts(split, decoded), gold, decoded.scores, n_class=1)

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for text, line in zip(self._texts(split, decoded), super().lines(task, split, decoded), strict=True):
            yield {**line, "prediction": text}

    def _texts(self, split: Prepared, decoded: Decoded) -> np.ndarray:
        assert split.candidates is not None
        pairs = zip(split.candidates.texts.to_pylist(), decoded.predictions, strict=True)
        return np.array([texts[prediction] for texts, prediction in pairs], object)


class Spans(Decoding):
    """The text between the likeliest start and end in any window of a context.

    A span lies in the context, starts before it ends, has at most 30 tokens, and starts at a token in the window that
    is the token's own. No answer is the first token as start and end; its score is the lowest of all windows. It is
    the prediction where ``no_answer`` is set and its score is higher (Devlin et al. 2019, released code).
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        predictions, margins, details = list[str](), list[float](), list[Any]()
        for start, stop in pairwise([*split.firsts, len(split)]):
            windows = range(start, stop)
            best = sorted((span for window in windows for span in _spans(split, window, outputs[window])), reverse=True)
            null = min(float(outputs[window][:, 0].sum()) for window in windows)
            chosen = _distinct(_text(split, start), best)
            if task.no_answer:
                chosen = sorted([*chosen, (null, "", 0)], key=lambda span: -span[0])
            scores = softmax([score for score, _, _ in chosen])
            details.append([(answer, place, float(p)) for (_, answer, place), p in zip(chosen, scores, strict=True)])
            predictions.append(chosen[0][1])
            margins.append(null - best[0][0])
        return Decoded(np.array(predictions, object), np.array(margins), details)

    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The whole context, or nothing where most questions have no answer."""
        gold = self._gold(split)
        nothing = task.no_answer and 2 * sum(answers == [""] for answers in gold) > len(gold)
        texts = ["" if nothing else _text(split, first) for first in split.firsts]
        return Decoded(np.array(texts, object), np.zeros(len(texts)))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, self._gold(split), decoded.scores, n_class=1)

    def lines(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, n_best in zip(decoded.predictions, decoded.details, strict=True):
            named = [{"text": text, "start": start, "probability": round(p, 6)} for text, start, p in n_best]
            yield {"prediction": prediction, "n_best": named}

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        for n_bests in zip(*(one.details for one in teachers), strict=True):
            mass: dict[tuple[int, int], float] = defaultdict(float)
            for text, start, p in chain(*n_bests):
                mass[start, start + len(text)] += p / len(teachers)
            shares = figures(np.array([*mass.values()]))
            yield [[*place, p] for place, p in zip(mass, shares, strict=True)]

    def threshold(self, split: Prepared, decoded: Decoded) -> float:
        """The threshold on the score of no answer at which the mean F1 on a labelled split is highest.

        Every row is answered whose score is not above it (Rajpurkar et al. 2018, official evaluation). 0 where that is
        best already.
        """
        gold = self._gold(split)
        texts = [next((text for text, _, _ in n_best if text), "") for n_best in decoded.details]
        gains = np.array([best_f1(text, right) - best_f1("", right) for text, right in zip(texts, gold, strict=True)])
        order = np.argsort(decoded.scores, kind="stable")
        totals = np.concatenate([[0], np.cumsum(gains[order])])  # of answering the first k rows
        scores = decoded.scores[order]
        middles = scores[:-1] / 2 + scores[1:] / 2
        middles = np.where(middles < scores[1:], middles, scores[:-1])  # two neighbours have nothing between them
        bounds = np.concatenate([[scores[0] - 1], middles, [scores[-1] + 1]])
        totals[1:-1][scores[:-1] == scores[1:]] = -np.inf  # no threshold comes between equal scores
        now = np.searchsorted(scores, 0.0, side="right")
        return 0.0 if totals[now] >= totals.max() else float(bounds[totals.argmax()])

    def _gold(self, split: Prepared) -> np.ndarray:
        """The texts of the right answers of each row; an empty text where there is none."""
        assert split.contexts is not None
        gold = np.empty(len(split.firsts), object)
        for row, window in enumerate(split.firsts):
            gold[row] = [text for _, text in json.loads(split.contexts.answers[window].as_py())] or [""]
        return gold


def mean_scores(teachers: Sequence[Decoded]) -> np.ndarray:
    """Mean of the scores of several decoded splits, in the shape of each."""
    return np.mean([one.scores for one in teachers], axis=0)


def figures(values: np.ndarray) -> list[float]:
    """Numbers for JSON with six significant figures."""
    return [float(f"{value:.6g}") for value in values]


def _bounds(split: Prepared) -> np.ndarray:
    """Which decisions belong to each row, whatever its windows."""
    assert split.decisions is not None
    return split.decisions[[*split.firsts, len(split)]]


def _text(split: Prepared, window: int) -> str:
    assert split.contexts is not None
    return split.contexts.texts[window].as_py()


def _spans(split: Prepared, window: int, output: np.ndarray) -> list[tuple[float, int, int]]:
    """(score, first character, character after the last) of the best spans in a window."""
    assert split.contexts is not None
    here = slice(int(split.offsets[window]), int(split.offsets[window + 1]))
    starts, ends = split.contexts.starts[here], split.contexts.ends[here]
    length = len(starts)
    scores = output[0, :length, None] + output[1, None, :length]
    place = np.arange(length)
    reach = place[None] - place[:, None]
    allowed = (starts >= 0)[:, None] & (ends > 0)[None] & (reach >= 0) & (reach < LONGEST_ANSWER)
    scores = np.where(allowed, scores, -np.inf).ravel()
    count = min(N_BEST, int(allowed.sum()))
    best = np.argpartition(-scores, count - 1)[:count] if count else ()
    return [(float(scores[one]), int(starts[one // length]), int(ends[one % length])) for one in best]


def _distinct(text: str, spans: Sequence[tuple[float, int, int]]) -> list[tuple[float, str, int]]:
    """(score, text, first character) of the best spans, each text once."""
    found: dict[str, tuple[float, str, int]] = {}
    for score, start, end in spans:
        found.setdefault(text[start:end], (score, text[start:end], start))
    return list(found.values())[:N_BEST]
