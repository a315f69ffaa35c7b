"""The head that several task types share, and the settings of all heads.

A head turns what it reads of the encoder into logits, one row per decision. Its class says what it reads:
``reads_tokens = True`` the final hidden states of all tokens, (T, H), ``False`` the pooled vector of each sequence,
(S, H).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.dropout import Dropout
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.pooling import initialised
from mt_dnn.section import PositiveInt, Section
from mt_dnn.tasks.san import SANHead


class HeadsConfig(Section):
    """The section ``heads`` of a run file."""

    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before a head, unless its task sets dropout")
    san_steps: PositiveInt = Field(5, description="K, reasoning steps of the SAN head")
    san_prediction_dropout: float = Field(
        0.1, ge=0, lt=1, description="chance that the SAN head leaves out a step's prediction in training"
    )


class PooledHead(nn.Module):
    """Dropout and one linear layer over the pooled sequence, initialised as transformers' classifiers are."""

    reads_tokens = False

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = initialised(nn.Linear(hidden, outputs), std)

    def forward(self, pooled: Tensor, batch: Batch) -> Tensor:
        """(S, H) → (S, C)."""
        return self.linear(self.dropout(pooled))


def pooled_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    """Builds the stochastic answer network if the task sets ``enable_san``, else a PooledHead."""
    if not task.enable_san:
        return PooledHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)
    return SANHead(
        encoder.hidden_size,
        task.n_class,
        dropout,
        encoder.initializer_range,
        steps=config.san_steps,
        prediction_dropout=config.san_prediction_dropout,
    )
