"""Runs a model on the rows of a prepared split, without training it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_utils.bars import bar
from data_utils.prepared import Prepared
from data_utils.scratch import chunks, scratch
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import collate, parts_of
from mt_dnn.distributed.ranks import all_gather, connected, is_main, rank, world_size
from mt_dnn.tasks.base import Flat
from mt_dnn.tasks.losses import precise
from mt_dnn.tasks.model import Model
from mt_dnn.training.precision import autocast


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How rows go through a model in evaluation.

    Args:
        max_tokens: the most tokens of a forward pass, with padding to the longest row. A longer row is alone.
        max_rows: the most rows of a forward pass; None: as many as ``max_tokens`` allows.
        precision: the number type, a key of ``AUTOCAST_TYPES``.
        device: where the model is.
        shown: whether the user sees a bar. It appears after a second.
    """

    max_tokens: int
    max_rows: int | None = None
    precision: str
    device: torch.device
    shown: bool = False

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """The row numbers of each forward pass. Rows of like length are together, short ones first.

        ``lengths``: the number of tokens of each row, (N,).
        """
        order = scratch(len(lengths), np.int64)
        order[:] = np.argsort(lengths, kind="stable")
        batches, start = list[np.ndarray](), 0
        in_order = (length for part in chunks(len(order)) for length in lengths[order[part]].tolist())
        for stop, longest in enumerate(in_order, 1):  # as if the batch had the rows start:stop
            rows = stop - start
            if rows > 1 and (rows * longest > self.max_tokens or (self.max_rows is not None and rows > self.max_rows)):
                batches.append(order[start : stop - 1])
                start = stop - 1
        return [*batches, order[start:]] if len(order) else []


def row_outputs(
    model: Model, task: str, split: Prepared, kept: Callable[[Tensor, Batch], Tensor], passes: Passes
) -> Sequence[np.ndarray]:
    """Runs the model on every row or window of a split. Returns its logits in row order, (decisions, options) each.

    Logits that are numbers are in the user's units and in float64. Others are in float32. Dropout is off.

    ``kept``: a function that gets the logits of a batch and the batch. Its result, one row for each decision, is kept
    instead of the logits. Connected ranks share the work. A process that is not connected does all of it.
    """
    batches = passes.batches(split.lengths)
    outputs = _Outputs(split)
    outputs_here: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # where all ranks need them
    was_training = model.training
    model.eval()
    ranks, number_here = (world_size(), rank()) if connected() else (1, 0)
    local_batches = batches[number_here::ranks]
    rounds = range(-(-len(batches) // ranks))
    hidden = not (passes.shown and is_main())
    with torch.inference_mode(), bar(rounds, f"predict {task}", "batch", hidden=hidden) as numbers:
        for number in numbers:
            # With fsdp a forward pass needs all ranks: one that has no batch left runs one row and drops the output.
            rows = local_batches[number] if number < len(local_batches) else batches[0][:1]
            batch = collate(split, rows, task=task).to(passes.device)
            with autocast(passes.precision, passes.device):
                logits = precise(kept(model.units(task).to_user(model(batch)), batch)).cpu().numpy()
            if number < len(local_batches):
                bounds = np.arange(batch.size) if batch.decisions is None else batch.decisions[:-1].cpu().numpy()
                if ranks > 1:
                    outputs_here.append((rows, logits, bounds))
                else:
                    outputs.put(rows, logits, bounds)
    model.train(was_training)
    for outputs_of_rank in all_gather(outputs_here) if ranks > 1 else ():
        for found in outputs_of_rank:
            outputs.put(*found)
    return outputs.in_row_order()


class _Outputs:
    """Collects the outputs of batches. They are one array, unless rows have different numbers of options or masks."""

    def __init__(self, split: Prepared) -> None:
        self.bounds, self.count = split.decisions, len(split)
        self.array: np.ndarray | None = None
        differ = split.groups is not None or split.contexts is not None or split.words is not None
        self.list = [np.empty(0)] * self.count if differ else None

    def put(self, rows: np.ndarray, logits: np.ndarray, bounds: np.ndarray) -> None:
        """Adds the logits of a batch, (decisions, options). ``bounds``: where each of its rows begins."""
        if self.list is not None:
            for row, output in zip(rows, np.split(logits, bounds[1:]), strict=True):
                self.list[row] = output
            return
        if self.array is None:
            decisions = self.count if self.bounds is None else int(self.bounds[-1])
            self.array = scratch((decisions, *logits.shape[1:]), logits.dtype)
        self.array[rows if self.bounds is None else parts_of(self.bounds, rows)[0]] = logits

    def in_row_order(self) -> Sequence[np.ndarray]:
        if self.list is not None:
            return self.list
        assert self.array is not None
        return Flat(self.array, self.bounds)
