"""One shared encoder, a head per training task or for several of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.run_tasks import head_owner


class Model(nn.Module):
    """Encoder and heads behind ``upto`` and ``resume``, the two verbs an adversary needs.

    ``tasks`` are the training tasks, some of which may share a head; ``defs`` may hold further tasks that read it.
    """

    def __init__(
        self, encoder: Encoder, tasks: Mapping[str, TaskDef], defs: Mapping[str, TaskDef], options: HeadsConfig
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {
                name: KINDS[task.task_type].head(
                    task, encoder, options.dropout if task.dropout is None else task.dropout, options
                )
                for name, task in tasks.items()
                if task.head is None
            }
        )
        self._owner = {name: head_owner(task) for name, task in defs.items()}

    def upto(self, level: int, batch: Batch, words: Tensor | None = None) -> Tensor:
        """State at a level, (T, H): 0 = word embeddings, r = output of block r; ``words`` replace the table's."""
        return self.encoder.upto(level, batch, words)

    def resume(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        """Logits (N, C) from the state at a level."""
        hidden = self.encoder.resume(state, level, batch)
        return self.heads[self._owner[batch.task]](hidden, batch, self.encoder.pool)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (N, C)."""
        return self.resume(self.upto(0, batch), 0, batch)
