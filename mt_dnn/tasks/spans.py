"""Extractive question answering: where in a context the answer stands."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from data_utils.metrics import Answers, best_f1
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, figures
from mt_dnn.tasks.heads import HeadsConfig, PooledHead
from mt_dnn.tasks.losses import MISSING

LONGEST_ANSWER = 30  # tokens


N_BEST = 20


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

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
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


class SpanHead(PooledHead):
    """Where a span starts and where it ends: two distributions over the tokens of each sequence.

    Both at the first token say that there is none; outside of training ``threshold`` is taken off the sum of the two.
    """

    threshold: Tensor

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 2, dropout, std)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (2·S, L), a start and an end for each sequence; MISSING where a sequence is shorter."""
        scores = batch.pad(self.linear(self.dropout(hidden)))
        if not self.training:
            scores[:, 0] -= self.threshold / 2
        there = batch.mask[:, 0, 0, :, None]
        return scores.masked_fill(~there, MISSING).transpose(1, 2).flatten(0, 1)


def span_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    return SpanHead(encoder.hidden_size, dropout, encoder.initializer_range)
