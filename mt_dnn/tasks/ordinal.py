"""Ordinal classification: one of several classes that have an order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Kind
from mt_dnn.tasks.classification import Classes
from mt_dnn.tasks.heads import HeadsConfig, PooledHead


class OrderedClasses(Classes):
    """Predicts the median class, the first class at which the summed probability reaches one half.

    No other class has a smaller expected distance to the right class.
    """

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        scores = super().__call__(task, owner, split, outputs).scores
        return Decoded((scores.cumsum(axis=1) < 0.5).sum(axis=1).clip(max=task.n_class - 1), scores)


class OrdinalHead(PooledHead):
    """Ordered classes: one score s and thresholds θ_1 < … < θ_{C−1}, P(y ≤ k) = σ(θ_k − s) (McCullagh 1980, section 2).

    ``lowest`` is θ_1. The softplus of ``gaps`` gives the distances between neighbouring thresholds. At the start a
    score of 0 makes all classes equally likely.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)
        thresholds = torch.logit(torch.arange(1, outputs) / outputs)
        self.lowest = nn.Parameter(thresholds[:1].clone())
        self.gaps = nn.Parameter(thresholds.diff().expm1().log())

    def forward(self, pooled: Tensor, batch: Batch) -> Tensor:
        """(S, H) → log P(y = k), (S, C).

        P(y = k) = σ(a) − σ(b) is computed as σ(a) σ(−b) (1 − e^(b − a)), because a difference would lose digits.
        """
        gaps = F.softplus(self.gaps.float())
        thresholds = torch.cat([self.lowest.float(), self.lowest.float() + gaps.cumsum(0)])
        above = thresholds - super().forward(pooled, batch).float()  # (S, C−1)
        nothing, between = above.new_zeros(len(above), 1), torch.log(-torch.expm1(-gaps))
        upper = torch.cat([F.logsigmoid(above), nothing], dim=1)
        lower = torch.cat([nothing, F.logsigmoid(-above)], dim=1)
        return upper + lower + F.pad(between, (1, 1))


def ordinal_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    return OrdinalHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


KINDS = {"ordinal": Kind(ordinal_head, OrderedClasses())}
