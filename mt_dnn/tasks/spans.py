"""Extractive question answering: where in a context the answer is."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from data_utils.answer_texts import best_f1, normalized
from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, Kind, column, figures, mean_size
from mt_dnn.tasks.heads import HeadsConfig, PooledHead
from mt_dnn.tasks.losses import MISSING, precise

LONGEST_ANSWER = 30  # tokens


N_BEST = 20  # how many candidates for an answer are kept in each window, and in each row


class Spans(Decoding):
    """Predicts the text of the span with the highest score in any window (Devlin et al. 2019, released code).

    The score of a span is the logit of its start plus the logit of its end. A span lies in the context, ends at or
    after its start, and has at most 30 tokens. Windows overlap, so a span counts only in the home window of its first
    token (data_utils/windows.py). The score of no answer is the sum of both logits at the first token of a window, the
    lowest of all windows. If ``no_answer`` is set and the score of no answer is the highest, the prediction is empty.
    ``details``: the best texts of each row, (text, first character in the context, probability).
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        predictions, margins, details = list[str](), list[float](), list[Any]()
        for start, stop in pairwise([*split.firsts, len(split)]):
            windows = range(start, stop)
            best = sorted((span for window in windows for span in _spans(split, window, outputs[window])), reverse=True)
            nothing = min(float(outputs[window][:, 0].sum()) for window in windows)
            chosen = _distinct(_text(split, start), best)
            if task.no_answer:
                chosen = sorted([*chosen, (nothing, "", 0)], key=lambda span: -span[0])
            scores = softmax([score for score, _, _ in chosen])
            details.append([(text, first, float(p)) for (_, text, first), p in zip(chosen, scores, strict=True)])
            predictions.append(chosen[0][1])
            margins.append(nothing - best[0][0])
        kept = outputs if task.no_answer else ()
        return Decoded(np.array(predictions, object), np.array(margins), details, outputs=kept)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """The answer that is right most often; the complete context; and with ``no_answer``, no answer.

        No text that is the same for all rows has more exact matches. For F1, other texts are not searched.
        """
        gold = self._gold(split)
        spellings = {normalized(text): text for answers in gold for text in answers}
        counts = Counter(text for answers in gold for text in {normalized(answer) for answer in answers})
        frequent = max((text for text in counts if text), key=lambda text: counts[text], default="")
        texts = [[spellings.get(frequent, "")] * len(gold), [_text(split, first) for first in split.firsts]]
        for answers in [*texts, *([[""] * len(gold)] if task.no_answer else [])]:
            yield Decoded(np.array(answers, object), np.zeros(len(gold)))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, self._gold(split), decoded.scores, n_class=1)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, n_best in zip(decoded.predictions, decoded.details, strict=True):
            named = [{"text": text, "start": start, "probability": round(p, 6)} for text, start, p in n_best]
            yield {"prediction": prediction, "n_best": named}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        yield from self._gold(split)

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        return Answers(column(records, "prediction"), column(records, "gold"), None, n_class=1)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        for n_bests in zip(*(teacher.details for teacher in teachers), strict=True):
            probability: dict[tuple[int, int], float] = defaultdict(float)  # by first character and the one after
            for text, start, p in chain(*n_bests):
                probability[start, start + len(text)] += p / len(teachers)
            shares = figures(np.array([*probability.values()]))
            yield [[*span, p] for span, p in zip(probability, shares, strict=True)]

    def tune(self, head: nn.Module, task: TaskDef, split: Prepared, decoded: Decoded) -> Decoded:
        """Moves the head's threshold of no answer to the best one for the split."""
        if not task.no_answer:
            return decoded
        assert isinstance(head, SpanHead)
        shift = self.threshold(split, decoded)
        if shift == 0:
            return decoded
        head.threshold += shift
        outputs = [output.copy() for output in decoded.outputs]
        for output in outputs:
            output[:, 0] -= shift / 2  # as in the head
        return self(task, task, split, outputs)

    def threshold(self, split: Prepared, decoded: Decoded) -> float:
        """The threshold on the scores of ``decoded`` at which the mean F1 on a labelled split is highest.

        A row gets an answer unless its score of no answer is above the threshold (Rajpurkar et al. 2018, official
        evaluation). If several thresholds are best and 0 is one of them, the result is 0.
        """
        gold = self._gold(split)
        texts = [next((text for text, _, _ in n_best if text), "") for n_best in decoded.details]
        gains = np.array([best_f1(text, right) - best_f1("", right) for text, right in zip(texts, gold, strict=True)])
        order = np.argsort(decoded.scores, kind="stable")
        gained = np.concatenate([[0], np.cumsum(gains[order])])  # if the k rows with the lowest scores get an answer
        scores = decoded.scores[order]
        middles = scores[:-1] / 2 + scores[1:] / 2
        middles = np.where(middles < scores[1:], middles, scores[:-1])  # no float lies between, it was rounded up
        bounds = np.concatenate([[scores[0] - 1], middles, [scores[-1] + 1]])
        gained[1:-1][scores[:-1] == scores[1:]] = -np.inf  # no threshold lies between equal scores
        now = np.searchsorted(scores, 0.0, side="right")
        return 0.0 if gained[now] >= gained.max() else float(bounds[gained.argmax()])

    def _gold(self, split: Prepared) -> np.ndarray:
        """The texts of the right answers of each row. An empty text if a question has no answer."""
        assert split.contexts is not None
        gold = np.empty(len(split.firsts), object)
        for row, window in enumerate(split.firsts):
            gold[row] = [text for _, text in json.loads(split.contexts.answers[window].as_py())] or [""]
        return gold


def _text(split: Prepared, window: int) -> str:
    """The context that a window is cut from."""
    assert split.contexts is not None
    return split.contexts.texts[window].as_py()


def _spans(split: Prepared, window: int, output: np.ndarray) -> list[tuple[float, int, int]]:
    """The best spans in a window, unordered: (score, first character, character after the last)."""
    assert split.contexts is not None
    tokens = slice(int(split.offsets[window]), int(split.offsets[window + 1]))
    starts, ends = split.contexts.starts[tokens], split.contexts.ends[tokens]
    length = len(starts)
    scores = output[0, :length, None] + output[1, None, :length]
    position = np.arange(length)
    distance = position[None] - position[:, None]  # from start to end, (L, L)
    allowed = (starts >= 0)[:, None] & (ends > 0)[None] & (distance >= 0) & (distance < LONGEST_ANSWER)
    scores = np.where(allowed, scores, -np.inf).ravel()
    count = min(N_BEST, int(allowed.sum()))
    best = np.argpartition(-scores, count - 1)[:count] if count else ()
    return [(float(scores[cell]), int(starts[cell // length]), int(ends[cell % length])) for cell in best]


def _distinct(text: str, spans: Sequence[tuple[float, int, int]]) -> list[tuple[float, str, int]]:
    """The best spans as (score, text, first character). Only the first of several spans with the same text is kept."""
    found: dict[str, tuple[float, str, int]] = {}
    for score, start, end in spans:
        found.setdefault(text[start:end], (score, text[start:end], start))
    return list(found.values())[:N_BEST]


class SpanHead(PooledHead):
    """Two distributions over the tokens of each sequence: where the span starts, and where it ends.

    Start and end at the first token mean that there is no answer. The score of no answer is the sum of these two
    logits. Except in training, ``threshold`` is subtracted from it.
    """

    reads_tokens = True
    threshold: Tensor

    def __init__(self, layers: nn.Module, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 2, dropout, std)
        self.layers = layers  # of the encoder's family
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Final hidden states (T, H) → logits (2·S, L).

        Each sequence has a row of start logits, then a row of end logits. They are MISSING after the last token.
        """
        scores = batch.pad(self.linear(self.dropout(self.layers(hidden))))
        if not self.training:
            scores = precise(scores)  # 16 bits would round the threshold away
            scores[:, 0] -= self.threshold / 2
        is_token = batch.mask[:, 0, 0, :, None]
        return scores.masked_fill(~is_token, MISSING).transpose(1, 2).flatten(0, 1)


def span_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    return SpanHead(encoder.token_layers(), encoder.hidden_size, dropout, encoder.initializer_range)


KINDS = {"span": Kind(span_head, Spans(), lambda task, split: mean_size(split.sequence_offsets))}
