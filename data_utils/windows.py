"""Long texts as windows: the words of a sentence to label, or a context to find an answer in.

Tokens know the characters they come from, so words and answers are found in the text as it stands; sub-word rules,
accents and case do not matter. Windows overlap, and a token belongs to the one where it has the most context on its
poorer side (Devlin et al. 2019, released code).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.features import CHUNK, Encoded, ragged
from data_utils.rows import Rows

LONGEST_QUESTION = 64  # tokens; the rest is cut off, as in BERT's released code


@dataclass(frozen=True)
class Window:
    """One window of a text: token ids and types (L,); its tokens ``first:last`` of the text start at ``place``."""

    ids: np.ndarray
    types: np.ndarray
    place: int
    first: int
    last: int

    @property
    def shift(self) -> int:
        """What turns the number of a token in the text into its place in the window."""
        return self.place - self.first

    def places_of(self, span: tuple[int, int] | None) -> np.ndarray:
        """Places of the first and last token of a span of the text; 0 and 0 where the window does not hold it."""
        holds = span is not None and self.first <= span[0] and span[1] < self.last
        return np.asarray(span) + self.shift if holds else np.zeros(2, np.int64)


@dataclass(frozen=True)
class Text:
    """A text of D tokens: its windows, ``offsets`` (D, 2), the characters of each token, ``home`` (D,), its window."""

    windows: list[Window]
    offsets: np.ndarray
    home: np.ndarray


def encode_words(rows: Rows, tokenizer: Any, max_length: int, stride: int) -> Encoded:
    """Sentences whose words are labelled: each word at its first token, in the window where it belongs.

    A word of which the tokenizer leaves nothing becomes the unknown token. Columns: ``marked``, the places of the
    labelled tokens of a window, and ``label``, their classes; with soft labels ``soft``, the classes' probabilities.

    Raises:
        UserError: ``max_length`` leaves no room, or the tokenizer cannot say where tokens come from.
    """
    room = _room(tokenizer, max_length, pair=False)
    windows, owners, marked, labels = list[Window](), list[int](), list[np.ndarray](), list[np.ndarray]()
    soft = list[np.ndarray]()
    for row, text in _texts(rows, [rows.first], tokenizer, max_length, min(stride, room // 2)):
        words = rows.first[row].split(" ")
        heads = first_tokens(words, text.offsets)
        if lost := [number for number, head in enumerate(heads) if head < 0]:
            for number in lost:
                words[number] = tokenizer.unk_token
            only = [[" ".join(words)]]
            ((_, text),) = _texts(rows, only, tokenizer, max_length, min(stride, room // 2))
            heads = first_tokens(words, text.offsets)
            if (heads < 0).any():
                word = rows.first[row].split(" ")[int(heads.argmin())]
                raise UserError(f"{rows.locations[row]}: the tokenizer makes nothing of the word '{word}'")
        classes = None if rows.label is None else np.asarray(rows.label[row], np.int64)
        for number, window in enumerate(text.windows):
            own = text.home[heads] == number
            if own.any():
                windows.append(window)
                owners.append(row)
                marked.append(heads[own] + window.shift)
                labels.append(np.zeros(own.sum(), np.int64) if classes is None else classes[own])
                if rows.soft is not None:
                    soft.append(rows.soft[row][own].ravel())
    columns = {"marked": ragged(marked, pa.int32()), "label": ragged(labels, pa.int64())}
    if soft:
        columns["soft"] = ragged(soft, pa.float32())
    return _encoded(windows, owners, 0, columns)


def encode_contexts(rows: Rows, tokenizer: Any, max_length: int, stride: int) -> Encoded:
    """Questions, each with one window of its context. Columns of a window's tokens, −1 outside the context:
    ``starts``, the first character (−1 also where another window is the token's own), ``ends``, the character after
    its last; of a window ``label``, first and last token of its first answer (0 and 0 where it holds none), its
    ``context`` and the ``answers`` as JSON; with soft labels ``soft``, how likely an answer starts, and ends, at each
    of its tokens.

    Raises:
        UserError: ``max_length`` leaves no room, or the tokenizer cannot say where tokens come from.
    """
    assert rows.second is not None
    room = _room(tokenizer, max_length, pair=True)
    longest = min(LONGEST_QUESTION, room // 2)
    questions = _cut(rows.first, tokenizer, longest)
    windows, owners, starts, ends, labels = list[Window](), list[int](), list[Any](), list[Any](), list[Any]()
    soft = list[np.ndarray]()
    for row, text in _texts(rows, [questions, rows.second], tokenizer, max_length, min(stride, (room - longest) // 2)):
        answers = rows.label[row] if rows.label is not None else []
        start, answer = answers[0] if answers else (0, "")
        span = _tokens_of(start, start + len(answer), text.offsets)
        likely = [(_tokens_of(start, end, text.offsets), p) for start, end, p in rows.soft[row]] if rows.soft else []
        for number, window in enumerate(text.windows):
            own = text.home[window.first : window.last] == number
            offsets = text.offsets[window.first : window.last]
            inside = np.full((2, len(window.ids)), -1, np.int32)
            part = slice(window.place, window.place + len(offsets))
            inside[0, part], inside[1, part] = np.where(own, offsets[:, 0], -1), offsets[:, 1]
            windows.append(window)
            owners.append(row)
            starts.append(inside[0])
            ends.append(inside[1])
            labels.append(window.places_of(span))
            if likely:
                shares = np.zeros((2, len(window.ids)), np.float32)  # of starts and ends
                for one, p in likely:
                    shares[[0, 1], window.places_of(one)] += p
                soft.append(shares.ravel())
    answers_text = pa.array([json.dumps(own) for own in rows.label or [[]] * len(rows)])
    columns = {
        "starts": ragged(starts, pa.int32()),
        "ends": ragged(ends, pa.int32()),
        "label": ragged(labels, pa.int64()),
        "context": pa.array(rows.second).dictionary_encode().take(pa.array(owners)),
        "answers": answers_text.take(pa.array(owners)),
    }
    if soft:
        columns["soft"] = ragged(soft, pa.float32())
    truncated = sum(kept != whole for kept, whole in zip(questions, rows.first, strict=True))
    return _encoded(windows, owners, truncated, columns)


def first_tokens(words: Sequence[str], offsets: np.ndarray) -> np.ndarray:
    """The first token of each word of a text with one space between two words, (W,); −1 where a word has none."""
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
    """For each token the window, of those that hold it, where the smaller of its two contexts is largest, (D,)."""
    token = np.arange(spans[-1][1])
    context = [np.minimum(token - first, last - 1 - token) for first, last in spans]  # negative where it is not
    return np.argmax(context, axis=0)


def _texts(
    rows: Rows, columns: Sequence[Sequence[str]], tokenizer: Any, max_length: int, stride: int
) -> Iterator[tuple[int, Text]]:
    """(row, its last text as windows) for each row; neighbouring windows share ``stride`` tokens."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{rows.path}: {type(tokenizer).__name__} cannot say which characters a token comes from")
    side = len(columns) - 1
    starts = range(0, len(columns[0]), CHUNK)
    for start in tqdm(starts, desc=f"tokenize {rows.path.name}", unit="chunk", leave=False, disable=len(starts) < 2):
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
        for number, owner in enumerate(encoded["overflow_to_sample_mapping"]):
            if owner != row and windows:
                yield start + row, _text(windows, offsets)
                windows, offsets = [], []
            row = owner
            inside = np.flatnonzero([part == side for part in encoded.sequence_ids(number)])
            if not len(inside):
                raise UserError(f"{rows.locations[start + row]}: the tokenizer makes nothing of this text")
            first = windows[-1].last - stride if windows else 0
            place = int(inside[0])
            windows.append(
                Window(
                    np.asarray(encoded["input_ids"][number], np.int32),
                    np.asarray(encoded["token_type_ids"][number], np.int32),
                    place,
                    first,
                    first + len(inside),
                )
            )
            offsets.append(np.asarray(encoded["offset_mapping"][number], np.int64)[place : place + len(inside)])
        yield start + row, _text(windows, offsets)


def _text(windows: list[Window], offsets: list[np.ndarray]) -> Text:
    spans = [(window.first, window.last) for window in windows]
    ends = [0, *(last for _, last in spans)]
    new = [own[end - first :] for own, (first, _), end in zip(offsets, spans, ends, strict=False)]
    return Text(windows, np.concatenate(new), home_windows(spans))


def _tokens_of(start: int, end: int, offsets: np.ndarray) -> tuple[int, int] | None:
    """First and last token of the characters ``start:end``; None where the tokenizer leaves nothing of them."""
    tokens = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def _cut(texts: Sequence[str], tokenizer: Any, longest: int) -> list[str]:
    """The texts, each cut after so many tokens."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        text if len(offsets) <= longest else text[: offsets[longest - 1][1]]
        for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
    ]


def _room(tokenizer: Any, max_length: int, *, pair: bool) -> int:
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length < special + 4:
        raise UserError(f"max_length: {max_length} leaves no room for text beside {special} special tokens; raise it")
    return max_length - special


def _encoded(windows: Sequence[Window], owners: Sequence[int], truncated: int, columns: dict[str, Any]) -> Encoded:
    return Encoded(
        tokens=np.concatenate([window.ids for window in windows]),
        token_types=np.concatenate([window.types for window in windows]),
        lengths=np.asarray([len(window.ids) for window in windows], np.int64),
        truncated=truncated,
        rows=np.asarray(owners, np.int64),
        columns=columns,
    )
