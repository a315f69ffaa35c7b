"""Batch: the tokens of its examples end to end; no padding token exists outside attention."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """A rank's part of a batch that all ranks train on together.

    ``positions`` are its examples' places in the whole batch of ``global_size`` examples and ``global_decisions``
    decisions; with them ``seed`` says what random numbers an example gets (draws.py). A rank that got no example takes
    the first one without counting it.
    """

    seed: int
    positions: tuple[int, ...]
    global_size: int
    counts: bool = True
    global_decisions: int | None = None  # as many as examples


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples, S sequences, T tokens, N decisions. Sequence i is tokens ``offsets[i]:offsets[i+1]``.

    An example is one sequence, or, where there are ``groups``, one sequence per choice: ``groups[i]:groups[i+1]``.
    It asks for one decision, that is one label and one row of logits, or for ``decisions[i]:decisions[i+1]``: the
    words of a sentence, which stand at the tokens ``marked``; masked tokens; or the start and the end of a span.
    """

    task: str
    input_ids: Tensor  # (T,)
    token_type_ids: Tensor  # (T,)
    position_ids: Tensor  # (T,) counted from 0 in each sequence
    offsets: Tensor  # (S+1,)
    longest: int  # L; a Python int, so that nothing waits for the device
    labels: Tensor | None = None  # (N,)
    share: Share | None = None
    groups: Tensor | None = None  # (B+1,)
    most_choices: int = 1  # C, of the example that has most
    decisions: Tensor | None = None  # (B+1,)
    marked: Tensor | None = None  # (N,)
    parts: Tensor | None = None  # (T,) which text each token is of, −1: a special token
    answerable: Tensor | None = None  # (T,) True at tokens of a context, in which answers lie
    soft: Tensor | None = None  # (N, C) probabilities of the options, or values, from teachers

    @property
    def counted(self) -> int:
        """Examples that count: none, where a rank only keeps the others company."""
        return self.size if self.share is None or self.share.counts else 0

    @property
    def global_size(self) -> int:
        """Examples of the batch on all ranks."""
        return self.size if self.share is None else self.share.global_size

    @property
    def weight(self) -> float:
        """How many of the whole batch's examples a mean over this part's decisions stands for."""
        if self.share is None or self.share.global_decisions is None or self.labels is None or not self.counted:
            return self.counted
        return self.global_size * len(self.labels) / self.share.global_decisions

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
    def example_ids(self) -> Tensor:
        """Index of the example of each token, (T,)."""
        if self.groups is None:
            return self.sequence_ids
        examples = torch.arange(self.size, device=self.offsets.device)
        return examples.repeat_interleave(self.example_lengths, output_size=len(self.input_ids))

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

    def by_example(self, scores: Tensor, missing: float) -> Tensor:
        """(S,) → (B, C): the scores of each example's choices, ``missing`` where it has fewer than others."""
        assert self.groups is not None
        there = torch.arange(self.most_choices, device=scores.device) < self.groups.diff()[:, None]
        return scores.new_full(there.shape, missing).masked_scatter(there, scores)

    @property
    def decisions_each(self) -> Tensor:
        """Decisions of each example, (B,)."""
        return self.offsets.new_ones(self.size) if self.decisions is None else self.decisions.diff()

    def example_means(self, values: Tensor) -> Tensor:
        """Mean over the decisions of each example, (N,) → (B,)."""
        if self.decisions is None:
            return values
        examples = torch.arange(self.size, device=values.device).repeat_interleave(
            self.decisions_each, output_size=len(values)
        )
        return values.new_zeros(self.size).index_add(0, examples, values) / self.decisions_each

    def repeated(self, copies: int) -> Batch:
        """So many copies of the batch end to end."""
        if copies == 1:
            return self
        marked = self.marked
        if marked is not None:
            marked = torch.cat([marked + copy * len(self.input_ids) for copy in range(copies)])
        return replace(
            self,
            input_ids=self.input_ids.repeat(copies),
            token_type_ids=self.token_type_ids.repeat(copies),
            position_ids=self.position_ids.repeat(copies),
            offsets=_repeated_bounds(self.offsets, copies),
            labels=None if self.labels is None else self.labels.repeat(copies),
            groups=None if self.groups is None else _repeated_bounds(self.groups, copies),
            decisions=None if self.decisions is None else _repeated_bounds(self.decisions, copies),
            marked=marked,
            parts=None if self.parts is None else self.parts.repeat(copies),
            answerable=None if self.answerable is None else self.answerable.repeat(copies),
            soft=None if self.soft is None else self.soft.repeat(copies, 1),
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
