"""Rows to token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_utils.encoder_names import resolve_name
from data_utils.errors import UserError
from data_utils.masking import numbered
from data_utils.rows import PLACEHOLDER, Rows

CHUNK = 4096  # rows given to the tokenizer at once; its own threads share them


@dataclass(frozen=True)
class Encoded:
    """S sequences as flat arrays: ``tokens`` and ``token_types`` (sum of lengths,) int32, ``lengths`` (S,) int64.

    A row is one sequence, or one per choice; or, where ``rows`` (S,) say which, one or more windows of a long text.
    ``truncated``: how many rows have lost tokens.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    lengths: np.ndarray
    truncated: int
    rows: np.ndarray | None = None
    columns: dict[str, Any] = field(default_factory=dict)  # what else is kept of each window, as Arrow arrays


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a hub name, folder or ``package:…``; never runs code that comes with it.

    Raises:
        UserError: there is none of this name.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(resolve_name(name), trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"tokenizer '{name}': cannot be loaded ({reason}); give a hub name or a local folder") from None


def encode(rows: Rows, tokenizer: Any, max_length: int, *, parts: bool = False, words: bool = False) -> Encoded:
    """Token ids with special tokens. Sequences over ``max_length`` lose tokens of the longer sentence, and are counted.

    With ``parts`` a column says which text each token is of: 0, 1, or −1, a special token; segment ids cannot, as
    RoBERTa has none. With ``words`` a column numbers the word that each token is of, as in masking.py.

    Raises:
        UserError: ``max_length`` leaves no room beside the special tokens, or the tokenizer cannot tell parts or words.
    """
    if parts and not getattr(tokenizer, "is_fast", False):
        raise UserError(f"enable_san: {type(tokenizer).__name__} cannot say which text a token is of; set it to false")
    if words and not getattr(tokenizer, "is_fast", False):
        raise UserError(f"masked_lm: {type(tokenizer).__name__} cannot say which word a token is of; use a fast one")
    wanted = {"parts": parts, "words": words}
    columns = _columns(rows)
    special = tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if max_length <= special:
        raise UserError(f"max_length: {max_length} leaves no room for text beside {special} special tokens; raise it")
    tokens: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    sources: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    truncated: list[int] = []
    for batch in _chunks(columns, rows.path.name):
        encoded = _call(tokenizer, batch, **wanted)
        long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        if long:
            short = _call(tokenizer, [[texts[i] for i in long] for texts in batch], max_length, **wanted)
            for key, values in encoded.items():
                for i, value in zip(long, short[key], strict=True):
                    values[i] = value
        truncated += [len(lengths) + i for i in long]
        lengths += [len(ids) for ids in encoded["input_ids"]]
        for key, found in (("input_ids", tokens), ("token_type_ids", types), ("parts", sources), ("words", numbers)):
            found += [np.asarray(ids, np.int32) for ids in encoded.get(key, ())]
    further = {"parts": ragged(sources, pa.int8())} if parts else {}
    if words:
        if empty := [row for row, own in enumerate(numbers) if own.max() < 0]:
            raise UserError(f"{rows.locations[empty[0]]}: the tokenizer makes nothing of this text; leave the row out")
        further["words"] = ragged(numbers, pa.int32())
    owners = np.repeat(range(len(rows)), [len(own) for own in rows.choices] if rows.choices is not None else 1)
    lost = len(np.unique(owners[truncated]))
    return Encoded(np.concatenate(tokens), np.concatenate(types), np.asarray(lengths, np.int64), lost, columns=further)


def ragged(parts: Sequence[np.ndarray], kind: pa.DataType) -> pa.LargeListArray:
    """Arrays of several lengths as one Arrow array."""
    bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return pa.LargeListArray.from_arrays(pa.array(bounds, pa.int64()), pa.array(np.concatenate(parts), kind))


def _columns(rows: Rows) -> list[list[str]]:
    """First and, for pairs, second sentence of each sequence."""
    if rows.choices is not None:
        queries = rows.second or [PLACEHOLDER] * len(rows)
        pairs = [
            (text, query.replace(PLACEHOLDER, choice))
            for text, query, own in zip(rows.first, queries, rows.choices, strict=True)
            for choice in own
        ]
        return [list(column) for column in zip(*pairs, strict=True)]
    return [rows.first] if rows.second is None else [rows.first, rows.second]


def _chunks(columns: list[list[str]], name: str) -> Iterator[list[list[str]]]:
    """The columns, a chunk of sequences at a time."""
    starts = range(0, len(columns[0]), CHUNK)
    for start in tqdm(starts, desc=f"tokenize {name}", unit="chunk", leave=False, disable=len(starts) < 2):
        yield [column[start : start + CHUNK] for column in columns]


def _call(
    tokenizer: Any,
    texts: list[list[str]],
    max_length: int | None = None,
    *,
    parts: bool = False,
    words: bool = False,
) -> dict[str, list[list[int]]]:
    options = {"truncation": "longest_first", "max_length": max_length} if max_length else {}
    encoded = tokenizer(*texts, return_attention_mask=False, return_token_type_ids=True, verbose=False, **options)
    found = {key: encoded[key] for key in ("input_ids", "token_type_ids")}
    if parts:
        texts_of = (encoded.sequence_ids(number) for number in range(len(texts[0])))
        found["parts"] = [[-1 if part is None else part for part in own] for own in texts_of]
    if words:
        rows = range(len(texts[0]))
        found["words"] = [numbered(encoded.sequence_ids(row), encoded.word_ids(row)).tolist() for row in rows]
    return found
