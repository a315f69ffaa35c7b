"""Runs a model on the rows of a prepared split, without training it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_utils.bars import bar
from data_utils.prepared import Prepared
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import collate
from mt_dnn.distributed.ranks import all_gather, connected, is_main, rank, world_size
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
        order = np.argsort(lengths, kind="stable")
        batches, start = list[np.ndarray](), 0
        for stop, longest in enumerate(lengths[order].tolist(), 1):  # as if the batch had the rows start:stop
            rows = stop - start
            if rows > 1 and (rows * longest > self.max_tokens or (self.max_rows is not None and rows > self.max_rows)):
                batches.append(order[start : stop - 1])
                start = stop - 1
        return [*batches, order[start:]] if len(order) else []


def row_outputs(
    model: Model, task: str, split: Prepared, kept: Callable[[Tensor, Batch], Tensor], passes: Passes
) -> list[np.ndarray]:
    """Runs the model on every row or window of a split. Returns its logits in row order, (decisions, options) each.

    Logits that are numbers are in the user's units and in float64. Others are in float32. Dropout is off.

    ``kept``: a function that gets the logits of a batch and the batch. Its result, one row for each decision, is kept
    instead of the logits. Connected ranks share the work. A process that is not connected does all of it.
    """
    batches = passes.batches(split.lengths)
    outputs_here: list[tuple[np.ndarray, list[np.ndarray]]] = []  # this rank's rows, and the output of each
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
                outputs_here.append((rows, np.split(logits, bounds[1:])))
    model.train(was_training)
    outputs = [np.empty(0)] * len(split.lengths)
    for outputs_of_rank in all_gather(outputs_here) if ranks > 1 else [outputs_here]:
        for rows, found in outputs_of_rank:
            for row, output in zip(rows, found, strict=True):
                outputs[row] = output
    return outputs
