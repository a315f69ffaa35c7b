"""Makes batches from rows of a prepared split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from data_utils.prepared import Prepared
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.distributed.ranks import rank, world_size

Mask = tuple[np.ndarray, np.ndarray]  # positions of the tokens to guess in a row, and the token ids shown instead


def local_batch(split: Prepared, micro_batch: MicroBatch, seed: int) -> Batch:
    """This rank's share of a micro-batch.

    Noise and masks are functions of ``seed`` and of a row's position in the micro-batch.
    """
    rows = micro_batch.rows
    masks = None if split.words is None else draw_masks(split, rows, seed)
    share = share_of_rank(split.offsets[rows + 1] - split.offsets[rows], rank(), world_size(), seed)
    return collate(split, rows, task=micro_batch.task, share=share, masks=masks)


def share_of_rank(lengths: np.ndarray, rank: int, world_size: int, seed: int) -> Share:
    """This rank's share of a batch of rows with these lengths.

    The rows are sorted by length and dealt out in turn, so that all ranks get about as many tokens.
    """
    positions = np.sort(np.argsort(-lengths, kind="stable")[rank::world_size])
    counts = len(positions) > 0
    return Share(seed, tuple(positions.tolist()) if counts else (0,), len(lengths), counts)


def draw_masks(split: Prepared, rows: Sequence[int] | np.ndarray, seed: int | None = None) -> list[Mask]:
    """The masks of the rows of a batch.

    With a seed, a mask depends on the seed and on the row's position in the batch, so each update draws new masks.
    Without a seed, a mask depends on the row's number alone, so a row has the same mask whenever it is scored.
    """
    numbers = rows if seed is None else range(len(rows))
    return [split.masked(row, seed=seed or 0, position=number) for row, number in zip(rows, numbers, strict=True)]


def collate(
    split: Prepared,
    rows: Sequence[int] | np.ndarray,
    *,
    task: str,
    share: Share | None = None,
    masks: Sequence[Mask] | None = None,
) -> Batch:
    """Makes a batch of these rows of a prepared split, in this order.

    Args:
        share: which of the rows this rank has. Default: all rows.
        masks: one mask for each of ``rows``, if tokens are masked. Default: they are drawn here.
    """
    index = np.asarray(rows, np.int64)
    if masks is None and split.words is not None:
        masks = draw_masks(split, index, None if share is None else share.seed)
    share = _with_sizes(share or Share.undivided(len(index)), split, index, masks)
    index = index[list(share.positions)]
    sequences, fields = index, dict[str, np.ndarray]()
    if split.groups is not None:
        sequences, fields["groups"] = parts_of(split.groups, index)
    source, offsets = parts_of(split.sequence_offsets, sequences)
    lengths = np.diff(offsets)
    tokens = split.tokens[source].astype(np.int64)
    if masks is not None:
        fields |= _masked(tokens, offsets, [masks[position] for position in share.positions])
    else:
        fields |= _labelled(split, index, offsets)
    if split.text_numbers is not None:
        fields["text_numbers"] = split.text_numbers[source]
    if split.contexts is not None:
        fields["answerable"] = split.contexts.ends[source] > 0
    if split.soft is not None:
        decisions = np.diff(fields.get("decisions", np.arange(len(index) + 1)))
        fields["soft"] = soft_labels(split, index, decisions)
    return Batch(
        task=task,
        input_ids=torch.from_numpy(tokens),
        token_type_ids=torch.from_numpy(split.token_types[source].astype(np.int64)),
        position_ids=torch.from_numpy(np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)),
        offsets=torch.from_numpy(offsets),
        longest=int(lengths.max()),
        share=share,
        most_decisions=max(share.decisions[position] for position in share.positions),
        most_choices=int(np.diff(fields["groups"]).max()) if "groups" in fields else 1,
        **{name: torch.from_numpy(values) for name, values in fields.items()},
    )


def _with_sizes(share: Share, split: Prepared, rows: np.ndarray, masks: Sequence[Mask] | None) -> Share:
    """The share with the numbers of tokens and decisions of all ``rows`` of the batch."""
    tokens = split.offsets[rows + 1] - split.offsets[rows]
    if masks is not None:
        decisions = [len(positions) for positions, _ in masks]
    elif split.decisions is not None:
        decisions = (split.decisions[rows + 1] - split.decisions[rows]).tolist()
    else:
        decisions = [1] * len(rows)
    return replace(share, tokens=tuple(tokens.tolist()), decisions=tuple(decisions))


def parts_of(bounds: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the entries of some rows in an array, where row i has the entries ``bounds[i]:bounds[i+1]``.

    Returns the positions of these entries, one row after the other, and the bounds of the rows among them. For example,
    with bounds 0, 2, 5, 6, rows 2 and 0 have the positions 5, 0, 1 and the new bounds 0, 1, 3.
    """
    starts = bounds[rows]
    counts = bounds[rows + 1] - starts
    new_bounds = np.concatenate([[0], np.cumsum(counts)])
    return np.repeat(starts - new_bounds[:-1], counts) + np.arange(new_bounds[-1]), new_bounds


def soft_labels(split: Prepared, rows: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """The soft labels of rows, in the layout of logits, (N, C). They are 0 where a decision has fewer than C options.

    Args:
        decisions: how many decisions each row has, (B,).
    """
    assert split.soft is not None and split.soft_offsets is not None
    source, bounds = parts_of(split.soft_offsets, rows)
    options = np.repeat(np.diff(bounds) // decisions, decisions)
    soft = np.zeros((len(options), options.max()), split.soft.dtype)
    soft[np.arange(soft.shape[1]) < options[:, None]] = split.soft[source]
    return soft


def _labelled(split: Prepared, rows: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of a batch that hold its labels. If a row has several decisions, also their bounds and tokens."""
    fields: dict[str, np.ndarray] = {}
    decisions = rows
    if split.decisions is not None:
        decisions, fields["decisions"] = parts_of(split.decisions, rows)
    if split.marked is not None:  # a prepared split counts them from the start of the row
        fields["marked"] = split.marked[decisions] + np.repeat(offsets[:-1], np.diff(fields["decisions"]))
    if split.labels is not None:
        fields["labels"] = split.labels[decisions]
    return fields


def _masked(tokens: np.ndarray, offsets: np.ndarray, masks: Sequence[Mask]) -> dict[str, np.ndarray]:
    """Replaces the tokens to guess in ``tokens``, in place.

    Returns the fields of the batch. The labels are the old tokens.
    """
    marked = np.concatenate([positions + start for (positions, _), start in zip(masks, offsets[:-1], strict=True)])
    labels = tokens[marked]
    tokens[marked] = np.concatenate([shown for _, shown in masks])
    return {
        "decisions": np.cumsum([0, *(len(positions) for positions, _ in masks)]),
        "marked": marked,
        "labels": labels,
    }
