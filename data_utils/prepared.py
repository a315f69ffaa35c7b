"""Prepared: the token ids and labels of one split, as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_utils.errors import UserError, shown
from data_utils.files import checksum, read_text
from data_utils.masking import masked
from data_utils.scratch import chunks, scratch

FORMAT = (
    3  # raise it when the content of a prepared file changes for the same input, or earlier versions cannot read it
)
# Keys of every manifest that are read after the split was opened, and the types of their values.
MANIFEST: dict[str, type] = {"rows": int, "source": str, "hash": str, "labelled": bool, "truncated": int}
COARSE = 1e-6  # the largest step from a number in float32 to the next one, as a share of the spread of the numbers


@dataclass(frozen=True)
class Contexts:
    """What turns tokens into answers.

    For each token: ``starts`` and ``ends`` (windows.py). For each window: its context as text in ``texts``, and the
    right ``answers`` as JSON.
    """

    starts: np.ndarray
    ends: np.ndarray
    texts: pa.DictionaryArray
    answers: pa.StringArray


@dataclass(frozen=True)
class Candidates:
    """For each cloze row: the texts that may fill the gap, and the numbers of the right ones, from 0."""

    texts: pa.ListArray
    right: pa.ListArray


@dataclass(frozen=True)
class Prepared:
    """The token ids and labels of N rows. Where texts are cut into windows, "row" below means one window of a row.

    Every split has:

    - ``batch``: the Arrow columns that all arrays below are views of, in memory or in a memory-mapped file;
    - ``manifest``: counts and settings by name, as in the file ``manifest.json``;
    - ``tokens``, ``token_types``: (sum of lengths,) int32; ``offsets``: (N+1,) int64. Row i has the tokens
      ``offsets[i]`` to ``offsets[i+1]`` − 1;
    - ``labels``: (N,) int64 or float64, or one per decision. None if the rows are unlabelled. If tokens are masked, the
      labels are the tokens themselves;
    - ``uid_column``: (N,), the names of the rows;
    - ``sequence_offsets``: as ``offsets``, for sequences. A row is one sequence, or one sequence per choice.

    Some task types add (None elsewhere):

    - ``groups``: (N+1,). The choices of row i are the sequences ``groups[i]`` to ``groups[i+1]`` − 1;
    - ``decisions``: (N+1,). The labels of row i are ``decisions[i]`` to ``decisions[i+1]`` − 1;
    - ``marked``: for each label, the position of its token in the row;
    - ``sources``: (N,), the number of the row that each window comes from;
    - ``contexts``, ``candidates``: what answers are made from;
    - ``text_numbers``: for each token, the text that it comes from: 0, 1, or −1 for special tokens;
    - ``questions``: (N,), a number that is the same for all rows of one question;
    - ``words``: for each token, the number of its word in the row, where words are masked;
    - ``soft`` (float32; float64 for numbers), ``soft_offsets`` (N+1,): the soft labels of row i are
      ``soft_offsets[i]`` to ``soft_offsets[i+1]`` − 1, one decision after the other.
    """

    path: Path
    batch: pa.RecordBatch
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
    text_numbers: np.ndarray | None = None
    candidates: Candidates | None = None
    questions: np.ndarray | None = None
    words: np.ndarray | None = None
    soft: np.ndarray | None = None
    soft_offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def uids(self) -> list[str]:
        """The names of the rows. A row that is cut into windows is named once."""
        return list(self.each_uid())

    def each_uid(self) -> Iterator[str]:
        """Yields the names of the rows."""
        names = self.uid_column if self.sources is None else self.uid_column.take(pa.array(self.firsts))
        for part in chunks(len(names)):
            yield from names[part].to_pylist()

    @property
    def row_count(self) -> int:
        """How many rows there are. A row that is cut into windows counts once."""
        return len(self) if self.sources is None else len(self.firsts)

    @property
    def firsts(self) -> np.ndarray:
        """The number of the first window of each row. If nothing is cut into windows, 0 to N − 1."""
        return np.arange(len(self)) if self.sources is None else np.unique(self.sources, return_index=True)[1]

    def masked(self, row: int, *, seed: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the tokens to guess in a row. Returns their positions and the tokens shown instead (masking.py)."""
        assert self.words is not None
        here = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return masked(self.tokens[here], self.words[here], seed=seed, position=position, **self.manifest["masking"])

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, (N,)."""
        return np.subtract(self.offsets[1:], self.offsets[:-1], out=scratch(len(self), np.int64))

    @property
    def is_coarse(self) -> bool:
        """Whether the labels are numbers that float32 rounds too much. Earlier versions have kept them in float32."""
        if not pa.types.is_float32(self.batch.column("label").type):
            return False
        numbers = [values for values in (self.labels, self.soft) if values is not None]
        return any(np.spacing(np.abs(values).max()) > COARSE * values.std(dtype=np.float64) for values in numbers)

    @classmethod
    def open(cls, path: Path) -> Prepared:
        """Maps the files of a folder that ``prepare`` has written. Nothing is copied into memory.

        The data is read once, for its checksum.

        Raises:
            UserError: the folder is damaged, or a later version of the toolkit has written it.
        """
        try:
            manifest, data = _read_manifest(path), path / "data.arrow"
            if manifest.get("checksum", "") not in ("", checksum(data)):  # earlier versions have written none
                raise ValueError("data.arrow was changed")
            batch = pa.ipc.open_file(pa.memory_map(str(data))).get_batch(0)
            return cls.of_columns(path, batch, manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"{path}: prepared data is damaged ({reason}); delete the folder") from None

    @classmethod
    def of_columns(cls, path: Path, batch: pa.RecordBatch, manifest: dict[str, Any]) -> Prepared:
        """Makes a split from the Arrow columns in ``batch``. ``path`` names the split in messages."""
        tokens, labels = batch.column("tokens"), batch.column("label")
        names, further = batch.schema.names, dict[str, Any]()
        offsets = sequence_offsets = tokens.offsets.to_numpy()
        if "sequence_lengths" in names:
            sequences = batch.column("sequence_lengths")
            further["groups"] = sequences.offsets.to_numpy()
            sequence_offsets = _bounds(sequences.values.to_numpy())
        if pa.types.is_large_list(labels.type):
            further["decisions"], labels = labels.offsets.to_numpy(), labels.values
        for name, column in (("sources", "source"), ("questions", "question")):
            if column in names:
                further[name] = batch.column(column).to_numpy()
        for name, column in (("text_numbers", "parts"), ("marked", "marked"), ("words", "words"), ("soft", "soft")):
            if column in names:
                further[name] = batch.column(column).values.to_numpy()
        if "soft" in names:
            further["soft_offsets"] = batch.column("soft").offsets.to_numpy()
        if "words" in names:
            labels = tokens.values
        if "context" in names:
            starts, ends = (batch.column(name).values.to_numpy() for name in ("starts", "ends"))
            further["contexts"] = Contexts(starts, ends, batch.column("context"), batch.column("answers"))
        if "candidates" in names:
            further["candidates"] = Candidates(batch.column("candidates"), batch.column("right"))
        return cls(
            path=path,
            batch=batch,
            manifest=manifest,
            tokens=tokens.values.to_numpy(),
            token_types=batch.column("token_types").values.to_numpy(),
            offsets=offsets,
            labels=labels.to_numpy() if manifest["labelled"] else None,
            uid_column=batch.column("uid"),
            sequence_offsets=sequence_offsets,
            **further,
        )


def size_figures(split: Prepared) -> tuple[str, ...]:
    """What ``mt-dnn prepare`` prints: rows, tokens, mean and longest length, truncated rows, unknown tokens."""
    lengths = split.lengths
    counts = (split.row_count, int(lengths.sum()), f"{lengths.mean():.1f}", int(lengths.max()))
    return (*map(str, counts), str(split.manifest["truncated"]), f"{split.manifest['unknown_share']:.1%}")


def _bounds(lengths: np.ndarray) -> np.ndarray:
    """Where parts of these lengths begin and end, (N+1,)."""
    found = scratch(len(lengths) + 1, np.int64)
    found[0] = 0
    np.cumsum(lengths, out=found[1:])
    return found


def _read_manifest(path: Path) -> dict[str, Any]:
    """Reads the file ``manifest.json`` of a folder. Raises KeyError or ValueError if it lacks a value."""
    manifest = json.loads(read_text(path / "manifest.json"))
    written = manifest.get("format", FORMAT)
    if type(written) is not int or not 1 <= written <= FORMAT:
        remedy = "update mt-dnn, or choose another folder of prepared files"
        raise UserError(f"{path}: format {shown(written)} is unknown, this version reads up to {FORMAT}; {remedy}")
    for key, kind in MANIFEST.items():
        if not isinstance(manifest[key], kind):
            raise ValueError(f"{key} in manifest.json is no {kind.__name__}")
    return manifest
