"""Vectors of texts from a shared encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError, did_you_mean
from data_utils.python_rows import rows_from_python
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.encoder import EMBEDDINGS, Encoder
from mt_dnn.encoders.pooling import POOLINGS
from mt_dnn.runs.outputs import Passes
from mt_dnn.tasks.losses import precise
from mt_dnn.training.precision import autocast

Text = str | tuple[str, str]

POOLER = "pooler"  # the pooling that the heads of a run use
# Texts are encoded like the rows of this task. It has no labels and no head.
TASK: dict[str, Any] = {
    "task_type": "regression",
    "metrics": ("pearson",),
    "loss": "mse",
    "kd_loss": "mse",
    "adv_loss": "mse",
}


def text_task(*, pairs: bool, columns: Mapping[str, str] | None = None) -> TaskDef:
    """The task whose rows are texts, or pairs of texts. ``columns``: see ``TaskDef``."""
    return TaskDef(name="texts", data_format="pair" if pairs else "single", columns=dict(columns or {}), **TASK)


def embed(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[Text],
    passes: Passes,
    *,
    pooling: str,
    level: int | None,
    max_length: int,
) -> np.ndarray:
    """Vectors of texts, (N, H); see ``TrainedModel.embed``."""
    known = [*POOLINGS, POOLER]
    if pooling not in known:
        hint = did_you_mean(pooling, known) or f" (known: {', '.join(known)})"
        raise UserError(f"pooling: no '{pooling}'{hint}")
    if pooling == POOLER and level is not None:
        raise UserError(f"pooling: '{POOLER}' reads the final states; leave level out, or use {', '.join(POOLINGS)}")
    if pooling == POOLER and encoder.untrained_pooler:
        raise UserError(f"pooling: this encoder has no trained pooler; use {', '.join(POOLINGS)}")
    if level is not None and type(level) is not int:
        raise UserError(f"level: write a whole number from 0 to {encoder.num_layers} (got {level!r})")
    table = isinstance(texts, Mapping) or hasattr(texts, "itertuples")  # rows_from_python refuses it
    if isinstance(texts, Iterable) and not isinstance(texts, str | bytes) and not table:
        texts = list(texts)
    pairs = isinstance(texts, list) and len(texts) > 0 and not isinstance(texts[0], str)
    task = text_task(pairs=pairs)
    rows = rows_from_python(texts, task)
    if rows is None:
        return np.empty((0, encoder.hidden_size), np.float32)
    split = encode_rows(rows, task, tokenizer, max_length=max_length)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    was_training = encoder.training
    encoder.eval()
    with torch.inference_mode(), autocast(passes.precision, passes.device):
        for numbers in passes.batches(split.lengths):
            batch = collate(split, numbers, task=task.name).to(passes.device)
            found.append((numbers, precise(_pooled(encoder, batch, pooling, level)).cpu().numpy()))
    encoder.train(was_training)
    vectors = np.empty((len(split), encoder.hidden_size), found[0][1].dtype)
    for numbers, part in found:
        vectors[numbers] = part
    return vectors


def _pooled(encoder: Encoder, batch: Batch, pooling: str, level: int | None) -> Tensor:
    """The vector of each sequence of a batch, (S, H)."""
    if pooling == POOLER and level is None:
        return encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    states = encoder(batch) if level is None else encoder.upto(level or EMBEDDINGS, batch)
    return encoder.pool(states, batch) if pooling == POOLER else POOLINGS[pooling](precise(states), batch)
