"""Cuts long texts into windows: sentences whose words are labelled, and contexts that hold an answer.

The tokenizer says which characters each token comes from. Words and answers are found in the text by these characters,
so sub-word rules, accents and case do not matter. Windows overlap. Each token is read in only one of its windows, its
*home window*. This is the window where the smaller of the token's left and right context is largest (Devlin et al.
2019, released code).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from data_utils.bars import bar
from data_utils.errors import EmptyRow, UserError
from data_utils.features import CHUNK, Encoded, check_fast, ragged
from data_utils.rows import Rows

LONGEST_QUESTION = 64  # tokens; longer questions are cut, as in BERT's released code


@dataclass(frozen=True)
class Window:
    """One window of a text. ``ids`` and ``types``: (L,), its token ids and token types.

    The window holds the tokens ``first`` to ``last`` − 1 of the text. ``position``: where the token ``first`` is in it.
    """

    ids: np.ndarray
    types: np.ndarray
    position: int
    first: int
    last: int

    @property
    def shift(self) -> int:
        """The difference between a token's position in the window and its number in the text."""
        return self.position - self.first

    def positions_of(self, span: tuple[int, int] | None) -> np.ndarray:
        """The positions, (2,), of the first and last token of a span. Zeros if the window does not hold all of it."""
        holds = span is not None and self.first <= span[0] and span[1] < self.last
        return np.asarray(span) + self.shift if holds else np.zeros(2, np.int64)


@dataclass(frozen=True)
class Text:
    """A text of D tokens, cut into windows.

    ``offsets``: (D, 2), where the characters of each token start and end. ``home``: (D,), the number of the home window
    of each token.
    """

    windows: list[Window]
    offsets: np.ndarray
    home: np.ndarray


def encode_words(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> Encoded:
    """Turns sentences whose words are labelled into windows. A word is labelled at its first token, in its home window.

    If the tokenizer makes no token of a word, the word becomes the unknown token. The result has these columns, with
    one entry per window: ``marked``, the positions of the labelled tokens; ``label``, their classes; with soft labels
    also ``soft``, the probabilities of the classes.

    Raises:
        UserError: ``max_length`` leaves no room, or the tokenizer does not know the characters of a token.
    """
    check_fast(tokenizer, rows.path, "characters")
    room = _room(tokenizer, max_length, pair=False)
    stride = min(stride, room // 2)
    windows, row_of, marked, labels = list[Window](), list[int](), list[np.ndarray](), list[np.ndarray]()
    soft = list[np.ndarray]()
    for row, text in _texts(rows, [rows.first], tokenizer, max_length, stride):
        heads = first_tokens(rows.first[row].split(" "), text.offsets)
        if (heads < 0).any():
            text, heads = _with_unknown(rows, row, heads, tokenizer, max_length, stride)
        classes = None if rows.label is None else np.asarray(rows.label[row], np.int64)
        for number, window in enumerate(text.windows):
            here = text.home[heads] == number
            if here.any():
                windows.append(window)
                row_of.append(row)
                marked.append(heads[here] + window.shift)
                labels.append(np.zeros(here.sum(), np.int64) if classes is None else classes[here])
                if rows.soft is not None:
                    soft.append(rows.soft[row][here].ravel())
    columns = {"marked": ragged(marked, pa.int32()), "label": ragged(labels, pa.int64())}
    if soft:
        columns["soft"] = ragged(soft, pa.float32())
    return _encoded(windows, row_of, 0, columns)


def _with_unknown(
    rows: Rows, row: int, heads: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> tuple[Text, np.ndarray]:
    """Replaces the words without tokens (−1 in ``heads``) by the unknown token. Returns the new text and heads."""
    words = rows.first[row].split(" ")
    spelled = [tokenizer.unk_token if head < 0 else word for word, head in zip(words, heads, strict=True)]
    ((_, text),) = _texts(rows, [[" ".join(spelled)]], tokenizer, max_length, stride)
    heads = first_tokens(spelled, text.offsets)
    if (heads < 0).any():
        word = words[int(heads.argmin())]
        raise EmptyRow(f"{rows.locations[row]}: the tokenizer makes no token of the word '{word}'; leave it out")
    return text, heads


def encode_contexts(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> Encoded:
    """Turns questions and contexts into windows. A window is the question and a part of the context.

    The result has these columns, with one entry per window.

    For each token: ``starts``, its first character in the context, −1 outside the context and outside the token's home
    window; ``ends``, the character after its last one, −1 outside the context.

    For the window: ``label``, the first and last token of the first answer, 0 and 0 if the window does not hold it;
    ``context``, the text; ``answers``, all answers as JSON. With soft labels also ``soft``: for each token the
    probability that an answer starts there, then for each token the probability that an answer ends there.

    Raises:
        UserError: ``max_length`` leaves no room, or the tokenizer does not know the characters of a token.
    """
    assert rows.second is not None
    check_fast(tokenizer, rows.path, "characters")
    room = _room(tokenizer, max_length, pair=True)
    longest = min(LONGEST_QUESTION, room // 2)
    questions = _cut(rows.first, tokenizer, longest)
    windows, row_of, starts, ends, labels = list[Window](), list[int](), list[Any](), list[Any](), list[Any]()
    soft = list[np.ndarray]()
    for row, text in _texts(rows, [questions, rows.second], tokenizer, max_length, min(stride, (room - longest) // 2)):
        answers = rows.label[row] if rows.label is not None else []
        start, answer = answers[0] if answers else (0, "")
        span = _tokens_of(start, start + len(answer), text.offsets)
        likely = [(_tokens_of(start, end, text.offsets), p) for start, end, p in rows.soft[row]] if rows.soft else []
        for number, window in enumerate(text.windows):
            windows.append(window)
            row_of.append(row)
            characters = _characters(text, number)
            starts.append(characters[0])
            ends.append(characters[1])
            labels.append(window.positions_of(span))
            if likely:
                shares = np.zeros((2, len(window.ids)), np.float32)  # of first and of last tokens
                for part, p in likely:
                    shares[[0, 1], window.positions_of(part)] += p
                soft.append(shares.ravel())
    answer_texts = pa.array([json.dumps(answers) for answers in rows.label or [[]] * len(rows)])
    columns = {
        "starts": ragged(starts, pa.int32()),
        "ends": ragged(ends, pa.int32()),
        "label": ragged(labels, pa.int64()),
        "context": pa.array(rows.second).dictionary_encode().take(pa.array(row_of)),
        "answers": answer_texts.take(pa.array(row_of)),
    }
    if soft:
        columns["soft"] = ragged(soft, pa.float32())
    truncated = sum(kept != question for kept, question in zip(questions, rows.first, strict=True))
    return _encoded(windows, row_of, truncated, columns)


def _characters(text: Text, number: int) -> np.ndarray:
    """``starts`` and ``ends`` of the tokens of a window, (2, L), see ``encode_contexts``."""
    window = text.windows[number]
    at_home = text.home[window.first : window.last] == number
    offsets = text.offsets[window.first : window.last]
    characters = np.full((2, len(window.ids)), -1, np.int32)
    here = slice(window.position, window.position + len(offsets))
    characters[0, here], characters[1, here] = np.where(at_home, offsets[:, 0], -1), offsets[:, 1]
    return characters


def first_tokens(words: Sequence[str], offsets: np.ndarray) -> np.ndarray:
    """The first token of each of W words, (W,), −1 for a word without tokens. The text has one space between words.

    ``offsets``: (D, 2), where the characters of each token start and end.
    """
    word_of = np.repeat(np.arange(len(words)), [len(word) + 1 for word in words])
    space = np.cumsum([len(word) + 1 for word in words]) - 1
    word_of[space] = -1
    tokens = np.where(offsets[:, 1] > offsets[:, 0], word_of[offsets[:, 1] - 1], -1)  # some begin with the space
    heads = np.full(len(words), -1)
    for number in range(len(tokens) - 1, -1, -1):
        if tokens[number] >= 0:
            heads[tokens[number]] = number
    return heads


def home_windows(spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The number of the home window of each of D tokens, (D,).

    ``spans``: for each window, the number of its first token, and the number of the token after its last.
    """
    token = np.arange(spans[-1][1])
    context = [np.minimum(token - first, last - 1 - token) for first, last in spans]  # negative outside the window
    return np.argmax(context, axis=0)


def _texts(
    rows: Rows, columns: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> Iterator[tuple[int, Text]]:
    """Yields for each row its number and its last text, cut into windows. Neighbours share ``stride`` tokens."""
    side = len(columns) - 1
    starts = range(0, len(columns[0]), CHUNK)
    for start in bar(starts, f"tokenize {rows.path.name}", "chunk"):
        encoded = tokenizer(
            *[list(column[start : start + CHUNK]) for column in columns],
            truncation="only_second" if side else "only_first",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
            verbose=False,
        )
        windows, offsets, row = list[Window](), list[np.ndarray](), -1
        for number, sample in enumerate(encoded["overflow_to_sample_mapping"]):
            if sample != row and windows:
                yield start + row, _text(windows, offsets)
                windows, offsets = [], []
            row = sample
            inside = np.flatnonzero([part == side for part in encoded.sequence_ids(number)])
            if not len(inside):
                raise EmptyRow(
                    f"{rows.locations[start + row]}: the tokenizer makes no token of this text; leave the row out"
                )
            first = windows[-1].last - stride if windows else 0
            position = int(inside[0])
            windows.append(
                Window(
                    np.asarray(encoded["input_ids"][number], np.int32),
                    np.asarray(encoded["token_type_ids"][number], np.int32),
                    position,
                    first,
                    first + len(inside),
                )
            )
            offsets.append(np.asarray(encoded["offset_mapping"][number], np.int64)[position : position + len(inside)])
        yield start + row, _text(windows, offsets)


def _text(windows: list[Window], offsets: list[np.ndarray]) -> Text:
    spans = [(window.first, window.last) for window in windows]
    ends = [0, *(last for _, last in spans)]
    new = [found[end - first :] for found, (first, _), end in zip(offsets, spans, ends, strict=False)]
    return Text(windows, np.concatenate(new), home_windows(spans))


def _tokens_of(start: int, end: int, offsets: np.ndarray) -> tuple[int, int] | None:
    """The first and last token of the characters ``start`` to ``end`` − 1. None if no token comes from them."""
    tokens = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def _cut(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int) -> list[str]:
    """Cuts each text after its first ``longest`` tokens."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        text if len(offsets) <= longest else text[: offsets[longest - 1][1]]
        for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
    ]


def _room(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pair: bool) -> int:
    """How many tokens of text fit beside the special tokens."""
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length < special + 4:
        raise UserError(f"max_length: {max_length} leaves no room for text beside {special} special tokens; raise it")
    return max_length - special


def _encoded(windows: Sequence[Window], row_of: Sequence[int], truncated: int, columns: dict[str, Any]) -> Encoded:
    return Encoded(
        tokens=np.concatenate([window.ids for window in windows]),
        token_types=np.concatenate([window.types for window in windows]),
        lengths=np.asarray([len(window.ids) for window in windows], np.int64),
        truncated=truncated,
        rows=np.asarray(row_of, np.int64),
        columns=columns,
    )
