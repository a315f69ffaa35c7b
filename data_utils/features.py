"""Turns rows into token ids."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from data_utils.bars import bar
from data_utils.encoder_names import UNREACHABLE, is_unreachable, resolve_name
from data_utils.errors import EmptyRow, UserError
from data_utils.masking import numbered
from data_utils.rows import PLACEHOLDER, Rows
from data_utils.vocabulary import check_vocabulary

VERY_LONG = 10_000  # characters; see _without_ends
CHUNK = 4096  # rows in one call of the tokenizer, which spreads them over its threads


@dataclass(frozen=True)
class Encoded:
    """The token ids of S sequences, one after the other.

    ``tokens``, ``token_types``: (sum of lengths,) int32. ``lengths``: (S,) int64. ``truncated``: how many rows have
    lost tokens. ``rows``: (S,), the number of the row that each window comes from. If texts are not cut into windows,
    ``rows`` is None, and each row is one sequence, or one sequence per choice. ``columns``: further Arrow arrays by
    name, with one entry per row or window.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    lengths: np.ndarray
    truncated: int
    rows: np.ndarray | None = None
    columns: dict[str, pa.Array] = field(default_factory=dict)


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a hub name, a local folder or ``package:<package>/<folder>``.

    ``revision``: a commit, branch or tag on the hub. None: the newest commit.

    Code from the tokenizer's repository is never run. A tokenizer that is written in Python copies its files whenever
    it is saved. It reads them from a temporary folder, because the folder ``name`` may be a checkpoint that the run
    removes. The temporary folder is removed with the tokenizer.

    Raises:
        UserError: the tokenizer does not exist, cannot be read or has no vocabulary.
    """
    from transformers import AutoTokenizer

    folder = resolve_name(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision or "main", trust_remote_code=False)
        if not is_fast(tokenizer):
            copy = tempfile.mkdtemp(prefix="mt-dnn-tokenizer-")
            save_tokenizer(tokenizer, Path(copy))
            tokenizer = AutoTokenizer.from_pretrained(copy, trust_remote_code=False)
            weakref.finalize(tokenizer, shutil.rmtree, copy, ignore_errors=True)
    except Exception as error:  # the package tokenizers raises plain Exceptions
        reason = str(error).split("\n")[0]
        problem = f"cannot be loaded ({reason}); give a hub name or a local folder with the tokenizer's files"
        raise UserError(f"tokenizer '{name}': {UNREACHABLE if is_unreachable(error) else problem}") from None
    check_vocabulary(tokenizer, name)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a tokenizer into a folder that ``load_tokenizer`` reads.

    A tokenizer that is written in Python gets copies of the files that it was loaded from. transformers writes some of
    them in a form that it cannot read: BERTweet's merges are wrong when they are loaded again.
    """
    tokenizer.save_pretrained(folder)
    for attribute, name in () if is_fast(tokenizer) else tokenizer.vocab_files_names.items():
        source = getattr(tokenizer, attribute, None)
        if source is not None and Path(source).is_file():
            shutil.copy(source, folder / name)


def is_fast(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the package tokenizers runs the tokenizer. Others are written in Python, such as PhoBERT's."""
    return bool(getattr(tokenizer, "is_fast", False))


NEEDS_FAST = "use an encoder whose folder has a tokenizer.json, or tasks that classify whole texts"


def check_fast(tokenizer: PreTrainedTokenizerBase, location: object, unknown: str, remedy: str = NEEDS_FAST) -> None:
    """Raises UserError for a tokenizer that is written in Python. ``unknown``: what it cannot say of a token."""
    if not is_fast(tokenizer):
        raise UserError(
            f"{location}: {type(tokenizer).__name__} is written in Python and cannot say which {unknown} a token "
            f"comes from; {remedy}"
        )


def encode(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, *, text_numbers: bool = False, words: bool = False
) -> Encoded:
    """Turns rows into token ids with special tokens.

    If a sequence is longer than ``max_length``, tokens of its longer text are dropped, and the row counts as truncated.

    ``text_numbers`` adds the column ``parts``: for each token the text that it comes from, 0 or 1, and −1 for special
    tokens. (Segment ids cannot say this, because RoBERTa has none.) ``words`` adds the column ``words``: for each token
    the number of its word, as in masking.py.

    Raises:
        UserError: ``max_length`` leaves no room beside the special tokens; the tokenizer does not know the text or word
            of a token; it makes no token of a row whose words are to be masked.
    """
    if text_numbers:
        check_fast(tokenizer, "enable_san", "text", "set it to false")
    if words:
        check_fast(tokenizer, "masked_lm", "word")
    texts = _columns(rows)
    special = tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
    if max_length <= special:
        raise UserError(f"max_length: {max_length} leaves no room for text beside {special} special tokens; raise it")
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("input_ids", "token_type_ids", "parts", "words")}
    truncated: list[int] = []
    for chunk in _chunks(texts, rows.path.name):
        encoded = _call(tokenizer, chunk, text_numbers=text_numbers, words=words)
        long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        if long:
            cut = [[column[i] for i in long] for column in chunk]
            if len(cut) == 2 and is_fast(tokenizer):
                cut = _without_ends(cut, tokenizer, 4 * max_length)
            short = _call(tokenizer, cut, max_length, text_numbers=text_numbers, words=words)
            for name, values in encoded.items():
                for i, value in zip(long, short[name], strict=True):
                    values[i] = value
        truncated += [len(found["input_ids"]) + i for i in long]
        for name, values in encoded.items():
            found[name] += [np.asarray(ids, np.int32) for ids in values]
    columns = {"parts": ragged(found["parts"], pa.int8())} if text_numbers else {}
    if words:
        if empty := [row for row, numbers in enumerate(found["words"]) if numbers.max() < 0]:
            raise EmptyRow(f"{rows.locations[empty[0]]}: the tokenizer makes no token of this text; leave the row out")
        columns["words"] = ragged(found["words"], pa.int32())
    row_of = np.repeat(range(len(rows)), 1 if rows.choices is None else [len(choices) for choices in rows.choices])
    return Encoded(
        tokens=np.concatenate(found["input_ids"]),
        token_types=np.concatenate(found["token_type_ids"]),
        lengths=np.asarray([len(ids) for ids in found["input_ids"]], np.int64),
        truncated=len(np.unique(row_of[truncated])),
        columns=columns,
    )


def _without_ends(columns: list[list[str]], tokenizer: PreTrainedTokenizerBase, tokens: int) -> list[list[str]]:
    """Cuts both texts of a row to so many tokens if both are very long. What is cut would be dropped anyway.

    The library makes a sequence of every dropped part of one text with every one of the other. For two texts of 40,000
    words this took 20 GB.
    """
    first, second = map(list, columns)
    for row, pair in enumerate(zip(first, second, strict=True)):
        if min(map(len, pair)) > VERY_LONG:
            encoded = tokenizer(list(pair), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            ends = [offsets[:tokens][-1][1] if offsets else 0 for offsets in encoded["offset_mapping"]]
            first[row], second[row] = (text[:end] for text, end in zip(pair, ends, strict=True))
    return [first, second]


def ragged(parts: Sequence[np.ndarray], kind: pa.DataType) -> pa.LargeListArray:
    """Puts arrays of different lengths into one Arrow array of lists."""
    bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return pa.LargeListArray.from_arrays(pa.array(bounds, pa.int64()), pa.array(np.concatenate(parts), kind))


def _columns(rows: Rows) -> list[list[str]]:
    """The first text of each sequence and, for pairs, the second."""
    if rows.choices is None:
        return [rows.first] if rows.second is None else [rows.first, rows.second]
    queries = rows.second or [PLACEHOLDER] * len(rows)
    pairs = [
        (text, query.replace(PLACEHOLDER, choice))
        for text, query, choices in zip(rows.first, queries, rows.choices, strict=True)
        for choice in choices
    ]
    return [list(column) for column in zip(*pairs, strict=True)]


def _chunks(columns: list[list[str]], name: str) -> Iterator[list[list[str]]]:
    """Yields the columns in chunks of CHUNK sequences."""
    starts = range(0, len(columns[0]), CHUNK)
    for start in bar(starts, f"tokenize {name}", "chunk"):
        yield [column[start : start + CHUNK] for column in columns]


def _call(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[list[str]],
    max_length: int | None = None,
    *,
    text_numbers: bool = False,
    words: bool = False,
) -> dict[str, list[list[int]]]:
    options = {"truncation": "longest_first", "max_length": max_length} if max_length else {}
    encoded = tokenizer(*texts, return_attention_mask=False, return_token_type_ids=True, verbose=False, **options)
    found = {key: encoded[key] for key in ("input_ids", "token_type_ids")}
    rows = range(len(texts[0]))
    if text_numbers:
        found["parts"] = [[-1 if text is None else text for text in encoded.sequence_ids(row)] for row in rows]
    if words:
        found["words"] = [numbered(encoded.sequence_ids(row), encoded.word_ids(row)).tolist() for row in rows]
    return found
