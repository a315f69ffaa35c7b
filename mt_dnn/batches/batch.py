"""Batch: the tokens of its examples, one example after the other. There is padding only inside attention."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mt_dnn.batches.fields import Bounds, PerDecision, PerToken, TokenIndex, repeats_of
from mt_dnn.batches.transfer import moved


@dataclass(frozen=True)
class Share:
    """One rank's part of a batch that all ranks train on together.

    Args:
        seed: decides the batch's random numbers. Seed and position decide the noise of an example (draws.py).
        positions: the positions of the rank's examples in the batch of all ranks.
        global_size: how many examples the batch of all ranks has.
        counts: False on a rank that got no example. Such a rank runs the first example with weight 0, so that it takes
            part in all communication.
        tokens: how many tokens each example of the batch of all ranks has. ``collate`` fills this in.
        decisions: how many decisions each example of the batch of all ranks has. ``collate`` fills this in.
    """

    seed: int
    positions: tuple[int, ...]
    global_size: int
    counts: bool = True
    tokens: tuple[int, ...] = field(default=(), compare=False)
    decisions: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def undivided(cls, size: int, seed: int = 0) -> Share:
        """The share of a process that has all ``size`` examples of a batch."""
        return cls(seed, tuple(range(size)), size)


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples, S sequences, T tokens, N decisions. Sequence i is tokens ``offsets[i]:offsets[i+1]``.

    An example is one sequence. If the batch has ``groups``, example i is several sequences, one per choice:
    ``groups[i]:groups[i+1]``.

    A decision is one label and one row of logits. An example has one decision. If the batch has ``decisions``, example
    i has several, ``decisions[i]:decisions[i+1]``: one for each word of a sentence, each masked token or each class of
    a class set, or two for the start and the end of a span. ``marked`` are the tokens of these words or masks.
    """

    task: str
    input_ids: PerToken
    token_type_ids: PerToken
    position_ids: PerToken  # counted from 0 in each sequence
    offsets: Bounds  # (S+1,)
    longest: int  # L; a Python int, so that nothing waits for the device
    share: Share
    labels: PerDecision | None = None  # (N,)
    groups: Bounds | None = None  # (B+1,)
    most_choices: int = 1  # C, the largest number of choices of an example
    decisions: Bounds | None = None  # (B+1,)
    most_decisions: int = 1  # the largest number of decisions of an example
    marked: TokenIndex | None = None  # (N,)
    text_numbers: PerToken | None = None  # the text that the token comes from, 0 or 1; −1: a special token
    answerable: PerToken | None = None  # True at tokens of a context, where an answer may be
    soft: PerDecision | None = None  # (N, C) probabilities of the options from teachers, or values

    @property
    def counted(self) -> int:
        """How many examples count: B, or 0 on a rank that got no example."""
        return self.size if self.share.counts else 0

    @property
    def global_size(self) -> int:
        """How many examples the batch of all ranks has."""
        return self.share.global_size

    @property
    def weight(self) -> float:
        """The weight of a mean over this rank's decisions. The weights of all ranks add up to ``global_size``."""
        answers = self.soft if self.labels is None else self.labels
        if not self.share.decisions or answers is None or not self.counted:
            return self.counted
        return self.global_size * len(answers) / sum(self.share.decisions)

    @property
    def size(self) -> int:
        """B, the number of examples."""
        return self.sequences if self.groups is None else len(self.groups) - 1

    @property
    def sequences(self) -> int:
        """S, the number of sequences."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """The number of tokens of each sequence, (S,)."""
        return self.offsets.diff()

    @property
    def example_lengths(self) -> Tensor:
        """The number of tokens of each example, (B,)."""
        return self.lengths if self.groups is None else self.offsets[self.groups].diff()

    @cached_property
    def sequence_ids(self) -> Tensor:
        """Index of the sequence of each token, (T,)."""
        return _index_of_part(self.lengths, len(self.input_ids))

    @cached_property
    def example_ids(self) -> Tensor:
        """Index of the example of each token, (T,)."""
        return self.sequence_ids if self.groups is None else _index_of_part(self.example_lengths, len(self.input_ids))

    @cached_property
    def padded_index(self) -> Tensor:
        """Position of each token in a padded (S·L,) layout, (T,)."""
        return self.sequence_ids * self.longest + self.position_ids

    @cached_property
    def mask(self) -> Tensor:
        """True where a padded layout holds a token, (S, 1, 1, L)."""
        return (torch.arange(self.longest, device=self.offsets.device) < self.lengths[:, None])[:, None, None]

    @cached_property
    def short_offsets(self) -> Tensor:
        """``offsets`` in int32, (S+1,), which attention on a GPU reads."""
        return self.offsets.to(torch.int32)

    @cached_property
    def first_bounds(self) -> Tensor:
        """The bounds of the sequences where each has its first token only, (S+1,) in int32."""
        return torch.arange(len(self.offsets), dtype=torch.int32, device=self.offsets.device)

    @property
    def is_even(self) -> bool:
        """True when all sequences have the same length."""
        return self.sequences * self.longest == len(self.input_ids)

    def pad(self, values: Tensor) -> Tensor:
        """(T, …) → (S, L, …), with zeros after the last token of each sequence."""
        if self.is_even:
            return values.view(self.sequences, self.longest, *values.shape[1:])
        rows = values.new_zeros(self.sequences * self.longest, *values.shape[1:])
        return rows.index_copy(0, self.padded_index, values).view(self.sequences, self.longest, *values.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(S, L, …) → (T, …)."""
        rows = padded.flatten(0, 1)
        return rows if self.is_even else rows.index_select(0, self.padded_index)

    def by_example(self, scores: Tensor, missing: float) -> Tensor:
        """(S,) → (B, C): the scores of each example's choices. ``missing`` fills up examples with fewer than C."""
        assert self.groups is not None
        there = torch.arange(self.most_choices, device=scores.device) < self.groups.diff()[:, None]
        return scores.new_full(there.shape, missing).masked_scatter(there, scores)

    @property
    def decisions_each(self) -> Tensor:
        """The number of decisions of each example, (B,)."""
        return self.offsets.new_ones(self.size) if self.decisions is None else self.decisions.diff()

    def example_means(self, values: Tensor) -> Tensor:
        """The mean over the decisions of each example, (N,) → (B,)."""
        if self.decisions is None:
            return values
        examples = _index_of_part(self.decisions_each, len(values))
        return values.new_zeros(self.size).index_add(0, examples, values) / self.decisions_each

    def repeated(self, copies: int) -> Batch:
        """A batch with ``copies`` copies of this one, end to end. ``share`` stays as it is."""
        if copies == 1:
            return self
        repeats = repeats_of(type(self))  # type: ignore[arg-type]  # mypy reads Batch.__hash__ for that of the type
        tokens = len(self.input_ids)
        copied: dict[str, Any] = {name: repeats[name](value, copies, tokens) for name, value in self._tensors().items()}
        return replace(self, **copied)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        if torch.device(device) == self.input_ids.device:
            return self
        values: dict[str, Any] = moved(self._tensors(), torch.device(device))
        return replace(self, **values)

    def _tensors(self) -> dict[str, Tensor]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _index_of_part(lengths: Tensor, count: int) -> Tensor:
    """The number of the part that each of ``count`` entries belongs to, (count,), for parts of these lengths."""
    return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths, output_size=count)
