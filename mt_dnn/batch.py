"""Batch: the tokens of its examples end to end; no padding token exists outside attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from data_utils.prepare import Prepared


@dataclass(frozen=True)
class Share:
    """A rank's part of a batch that all ranks train on together.

    ``places`` are its examples' places in the whole batch of ``whole_size`` examples; with them ``seed`` says what
    random numbers an example gets (draws.py). A rank that got no example takes the first one without counting it.
    """

    seed: int
    places: tuple[int, ...]
    whole_size: int
    counts: bool = True


def divided(lengths: np.ndarray, rank: int, world_size: int, seed: int) -> Share:
    """This rank's share of a batch of rows of these lengths: every world_size-th by length, so that tokens balance."""
    places = np.sort(np.argsort(-lengths, kind="stable")[rank::world_size])
    counts = len(places) > 0
    return Share(seed, tuple(places.tolist()) if counts else (0,), len(lengths), counts)


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples, S sequences, T tokens. Sequence i is tokens ``offsets[i]:offsets[i+1]``.

    An example is one sequence, or, where there are ``groups``, one sequence per choice: ``groups[i]:groups[i+1]``.
    """

    task: str
    input_ids: Tensor  # (T,)
    token_type_ids: Tensor  # (T,)
    position_ids: Tensor  # (T,) counted from 0 in each sequence
    offsets: Tensor  # (S+1,)
    labels: Tensor | None  # (B,)
    longest: int  # L; a Python int, so that nothing waits for the device
    share: Share | None = None
    groups: Tensor | None = None  # (B+1,)
    most_choices: int = 1  # C, of the example that has most

    @property
    def counted(self) -> int:
        """Examples that count: none, where a rank only keeps the others company."""
        return self.size if self.share is None or self.share.counts else 0

    @property
    def whole_size(self) -> int:
        """Examples of the batch on all ranks."""
        return self.size if self.share is None else self.share.whole_size

    @property
    def size(self) -> int:
        """B."""
        return self.sequences if self.groups is None else len(self.groups) - 1

    @property
    def sequences(self) -> int:
        """S."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, (S,)."""
        return self.offsets.diff()

    @property
    def example_lengths(self) -> Tensor:
        """Tokens of each example, (B,)."""
        return self.lengths if self.groups is None else self.offsets[self.groups].diff()

    @cached_property
    def sequence_ids(self) -> Tensor:
        """Index of the sequence of each token, (T,)."""
        sequences = torch.arange(self.sequences, device=self.offsets.device)
        return sequences.repeat_interleave(self.lengths, output_size=len(self.input_ids))

    @cached_property
    def padded_index(self) -> Tensor:
        """Where each token stands in a padded (S·L,) layout, (T,)."""
        return self.sequence_ids * self.longest + self.position_ids

    @cached_property
    def mask(self) -> Tensor:
        """True where a padded layout holds a token, (S, 1, 1, L)."""
        return (torch.arange(self.longest, device=self.offsets.device) < self.lengths[:, None])[:, None, None]

    @property
    def is_even(self) -> bool:
        """True when all sequences have the same length."""
        return self.sequences * self.longest == len(self.input_ids)

    def pad(self, values: Tensor) -> Tensor:
        """(T, …) → (S, L, …), zeros where no token is."""
        if self.is_even:
            return values.view(self.sequences, self.longest, *values.shape[1:])
        rows = values.new_zeros(self.sequences * self.longest, *values.shape[1:])
        return rows.index_copy(0, self.padded_index, values).view(self.sequences, self.longest, *values.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(S, L, …) → (T, …)."""
        rows = padded.flatten(0, 1)
        return rows if self.is_even else rows.index_select(0, self.padded_index)

    @cached_property
    def choices(self) -> Tensor | None:
        """How many choices each example has, (B,); None where it is one sequence."""
        return None if self.groups is None else self.groups.diff()

    def by_example(self, scores: Tensor, missing: float) -> Tensor:
        """(S,) → (B, C): the scores of each example's choices, ``missing`` where it has fewer than others."""
        assert self.choices is not None
        there = torch.arange(self.most_choices, device=scores.device) < self.choices[:, None]
        return scores.new_full(there.shape, missing).masked_scatter(there, scores)

    def repeated(self, copies: int) -> Batch:
        """So many copies of the batch end to end."""
        if copies == 1:
            return self
        offsets = _repeated_bounds(self.offsets, copies)
        return replace(
            self,
            input_ids=self.input_ids.repeat(copies),
            token_type_ids=self.token_type_ids.repeat(copies),
            position_ids=self.position_ids.repeat(copies),
            offsets=offsets,
            labels=None if self.labels is None else self.labels.repeat(copies),
            groups=None if self.groups is None else _repeated_bounds(self.groups, copies),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        if torch.device(device) == self.input_ids.device:
            return self
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def _repeated_bounds(bounds: Tensor, copies: int) -> Tensor:
    """Bounds of parts, (N+1,) → (copies·N+1,), for so many copies of what they divide, end to end."""
    return torch.cat([bounds[:1], bounds.diff().repeat(copies).cumsum(0)])


def collate(split: Prepared, rows: Sequence[int] | np.ndarray, *, task: str, share: Share | None = None) -> Batch:
    """The batch of these rows of a prepared split, in this order, or this rank's share of it."""
    index = np.asarray(rows, np.int64)
    if share is not None:
        index = index[list(share.places)]
    groups = None
    if split.groups is None:
        sequences = index
    else:
        choices = split.groups[index + 1] - split.groups[index]
        groups = np.concatenate([[0], np.cumsum(choices)])
        sequences = np.repeat(split.groups[index] - groups[:-1], choices) + np.arange(groups[-1])
    starts = split.sequence_offsets[sequences]
    lengths = split.sequence_offsets[sequences + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    source = np.repeat(starts, lengths) + positions
    return Batch(
        task=task,
        input_ids=torch.from_numpy(split.tokens[source].astype(np.int64)),
        token_type_ids=torch.from_numpy(split.token_types[source].astype(np.int64)),
        position_ids=torch.from_numpy(positions),
        offsets=torch.from_numpy(offsets),
        labels=None if split.labels is None else torch.from_numpy(split.labels[index]),
        longest=int(lengths.max()),
        share=share,
        groups=None if groups is None else torch.from_numpy(groups),
        most_choices=1 if groups is None else int(choices.max()),
    )
