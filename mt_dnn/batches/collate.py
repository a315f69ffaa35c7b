"""From rows of a prepared split to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from data_utils.prepared import Prepared
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.distributed.ranks import rank, world_size


def share_of_rank(lengths: np.ndarray, rank: int, world_size: int, seed: int, *, decisions: int | None = None) -> Share:
    """This rank's share of a batch of rows of these lengths: every world_size-th by length, so that tokens balance.

    ``decisions``: how many the whole batch asks for; by default one per row.
    """
    positions = np.sort(np.argsort(-lengths, kind="stable")[rank::world_size])
    counts = len(positions) > 0
    return Share(seed, tuple(positions.tolist()) if counts else (0,), len(lengths), counts, decisions)


def collate(split: Prepared, rows: Sequence[int] | np.ndarray, *, task: str, share: Share | None = None) -> Batch:
    """The batch of these rows of a prepared split, in this order, or this rank's share of it."""
    index = np.asarray(rows, np.int64)
    if share is not None:
        index = index[list(share.positions)]
    parts: dict[str, np.ndarray] = {}
    sequences, most_choices = index, 1
    positions = index if share is None else share.positions  # the same masks for a row whenever it is scored
    if split.groups is not None:
        sequences, parts["groups"] = parts_of(split.groups, index)
        most_choices = int(np.diff(parts["groups"]).max())
    source, offsets = parts_of(split.sequence_offsets, sequences)
    lengths = np.diff(offsets)
    labelled = index
    if split.decisions is not None:
        labelled, parts["decisions"] = parts_of(split.decisions, index)
    if split.marked is not None:  # counted from the start of the row, then of the batch
        parts["marked"] = split.marked[labelled] + np.repeat(offsets[:-1], np.diff(parts["decisions"]))
    if split.parts is not None:
        parts["parts"] = split.parts[source]
    if split.contexts is not None:
        parts["answerable"] = split.contexts.ends[source] > 0
    tokens = split.tokens[source].astype(np.int64)
    if split.words is not None:
        seed = 0 if share is None else share.seed
        guessed = [
            split.masked(row, seed=seed, position=position) for row, position in zip(index, positions, strict=True)
        ]
        parts["decisions"] = np.cumsum([0, *(len(own) for own, _ in guessed)])
        parts["marked"] = np.concatenate([own + start for (own, _), start in zip(guessed, offsets, strict=False)])
        parts["labels"] = tokens[parts["marked"]]
        tokens[parts["marked"]] = np.concatenate([shown for _, shown in guessed])
    elif split.labels is not None:
        parts["labels"] = split.labels[labelled]
    if split.soft is not None:
        parts["soft"] = soft_labels(split, index, np.diff(parts.get("decisions", np.arange(len(index) + 1))))
    return Batch(
        task=task,
        input_ids=torch.from_numpy(tokens),
        token_type_ids=torch.from_numpy(split.token_types[source].astype(np.int64)),
        position_ids=torch.from_numpy(np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)),
        offsets=torch.from_numpy(offsets),
        longest=int(lengths.max()),
        share=share,
        most_choices=most_choices,
        **{name: torch.from_numpy(part) for name, part in parts.items()},
    )


def soft_labels(split: Prepared, rows: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Soft labels of rows with so many decisions each, as logits stand, (N, C); 0 where there are fewer options."""
    assert split.soft is not None and split.soft_offsets is not None
    source, bounds = parts_of(split.soft_offsets, rows)
    options = np.repeat(np.diff(bounds) // decisions, decisions)
    soft = np.zeros((len(options), options.max()), np.float32)
    soft[np.arange(soft.shape[1]) < options[:, None]] = split.soft[source]
    return soft


def parts_of(bounds: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the parts ``bounds[row]:bounds[row+1]``, end to end, and the bounds of each among them."""
    starts = bounds[rows]
    counts = bounds[rows + 1] - starts
    own = np.concatenate([[0], np.cumsum(counts)])
    return np.repeat(starts - own[:-1], counts) + np.arange(own[-1]), own


def local_batch(split: Prepared, part: MicroBatch, seed: int) -> Batch:
    """This rank's part of a batch."""
    rows, bounds = part.rows, split.decisions
    decisions = None if bounds is None else int((bounds[rows + 1] - bounds[rows]).sum())
    if split.words is not None:
        decisions = sum(len(split.masked(row, seed=seed, position=position)[0]) for position, row in enumerate(rows))
    share = share_of_rank(split.lengths[rows], rank(), world_size(), seed, decisions=decisions)
    return collate(split, rows, task=part.task, share=share)
