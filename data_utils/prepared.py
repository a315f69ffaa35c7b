"""A prepared split: token ids and labels as memory-mapped arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_utils.errors import UserError
from data_utils.masking import masked


@dataclass(frozen=True)
class Contexts:
    """What turns tokens into answers: ``starts`` and ``ends`` as in windows.py, per token, and texts per window."""

    starts: np.ndarray
    ends: np.ndarray
    texts: pa.DictionaryArray
    answers: pa.StringArray


@dataclass(frozen=True)
class Candidates:
    """The texts that may fill each cloze, and the numbers of the right ones from 0, in lists."""

    texts: pa.ListArray
    right: pa.ListArray


@dataclass(frozen=True)
class Prepared:
    """A prepared split of N rows, or windows of rows, zero-copy from the memory map.

    ``tokens``, ``token_types``: (sum of lengths,) int32, row i is ``offsets[i]:offsets[i+1]``; ``offsets``: (N+1,)
    int64; ``labels``: (N,) int64 or float32, None when unlabelled. Where a row has choices, it is the sequences
    ``groups[i]:groups[i+1]``, and sequence j the tokens ``sequence_offsets[j]:sequence_offsets[j+1]``. Where it has
    several labels, they are ``decisions[i]:decisions[i+1]``, at the row's tokens ``marked``. ``sources`` (N,) are the
    rows that windows come from, ``parts`` say which text each token is of, ``questions`` (N,) which rows belong
    together. ``words`` say which word of its row each token is of, where tokens are masked; ``labels`` are then the
    tokens themselves. ``soft``: where there are soft labels, those of row i are ``soft_offsets[i]:soft_offsets[i+1]``,
    decision after decision, float32.
    """

    path: Path
    manifest: dict[str, Any]
    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None
    uid_column: pa.StringArray
    sequence_offsets: np.ndarray
    groups: np.ndarray | None = None
    decisions: np.ndarray | None = None
    marked: np.ndarray | None = None
    sources: np.ndarray | None = None
    contexts: Contexts | None = None
    parts: np.ndarray | None = None
    candidates: Candidates | None = None
    questions: np.ndarray | None = None
    words: np.ndarray | None = None
    soft: np.ndarray | None = None
    soft_offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def uids(self) -> list[str]:
        """The names of the rows, one each however many windows."""
        names = self.uid_column if self.sources is None else self.uid_column.take(pa.array(self.firsts))
        return names.to_pylist()

    @property
    def firsts(self) -> np.ndarray:
        """The first window of each row."""
        return np.arange(len(self)) if self.sources is None else np.unique(self.sources, return_index=True)[1]

    def masked(self, row: int, *, seed: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of a row's tokens that are to be guessed and what stands there instead (masking.py)."""
        assert self.words is not None
        own = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return masked(self.tokens[own], self.words[own], seed=seed, position=position, **self.manifest["masking"])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (N,)."""
        return np.diff(self.offsets)

    def size_figures(self) -> tuple[str, ...]:
        """Rows, tokens, mean length, longest length and truncated rows, as ``mt-dnn prepare`` prints them."""
        lengths = self.lengths
        counts = (len(self.firsts), int(lengths.sum()), f"{lengths.mean():.1f}", int(lengths.max()))
        return (*map(str, counts), str(self.manifest["truncated"]))

    @classmethod
    def open(cls, path: Path) -> Prepared:
        """Maps a folder written by ``prepare``.

        Raises:
            UserError: the folder is damaged.
        """
        try:
            manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
            batch = pa.ipc.open_file(pa.memory_map(str(path / "data.arrow"))).get_batch(0)
            tokens = batch.column("tokens")
            offsets = sequence_offsets = tokens.offsets.to_numpy()
            further: dict[str, Any] = {}
            names = batch.schema.names
            if "sequence_lengths" in names:
                sequences = batch.column("sequence_lengths")
                further["groups"] = sequences.offsets.to_numpy()
                sequence_offsets = np.concatenate([[0], np.cumsum(sequences.values.to_numpy())])
            labels = batch.column("label")
            if pa.types.is_large_list(labels.type):
                further["decisions"], labels = labels.offsets.to_numpy(), labels.values
            if "source" in names:
                further["sources"] = batch.column("source").to_numpy()
            if "parts" in names:
                further["parts"] = batch.column("parts").values.to_numpy()
            if "marked" in names:
                further["marked"] = batch.column("marked").values.to_numpy()
            if "soft" in names:
                soft = batch.column("soft")
                further["soft"], further["soft_offsets"] = soft.values.to_numpy(), soft.offsets.to_numpy()
            if "context" in names:
                starts, ends = (batch.column(name).values.to_numpy() for name in ("starts", "ends"))
                further["contexts"] = Contexts(starts, ends, batch.column("context"), batch.column("answers"))
            if "candidates" in names:
                further["candidates"] = Candidates(batch.column("candidates"), batch.column("right"))
            if "words" in names:
                further["words"], labels = batch.column("words").values.to_numpy(), tokens.values
            if "question" in names:
                further["questions"] = batch.column("question").to_numpy()
            return cls(
                path=path,
                manifest=manifest,
                tokens=tokens.values.to_numpy(),
                token_types=batch.column("token_types").values.to_numpy(),
                offsets=offsets,
                labels=labels.to_numpy() if manifest["labelled"] else None,
                uid_column=batch.column("uid"),
                sequence_offsets=sequence_offsets,
                **further,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"{path}: prepared data is damaged ({reason}); delete the folder") from None
