"""The model: one encoder that all tasks share, and a head for each task or for several tasks together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.dropout import number_dropouts
from mt_dnn.encoders.encoder import Encoder, Level
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.run_tasks import head_owner
from mt_dnn.tasks.units import NoUnits, Units


class Model(nn.Module):
    """Encoder and heads. An adversary needs only ``upto`` and ``resume``, the two halves of the forward pass.

    ``tasks``: the training tasks. Each gets a head, unless its field ``head`` names another task. ``defs``: the
    training tasks and all other tasks that use one of these heads.
    """

    def __init__(
        self, encoder: Encoder, tasks: Mapping[str, TaskDef], defs: Mapping[str, TaskDef], config: HeadsConfig
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {
                name: KINDS[task.task_type].head(
                    task, encoder, config.dropout if task.dropout is None else task.dropout, config
                )
                for name, task in tasks.items()
                if task.head is None
            }
        )
        number_dropouts(self)
        self._trained: set[str] = set()  # the heads that are not new
        self._owner = {name: head_owner(task) for name, task in defs.items()}

    def units(self, task: str) -> Units | NoUnits:
        """The units of the numbers that the head of a task says."""
        return getattr(self.heads[self._owner[task]], "units", NoUnits())

    def fit_units(self, tasks: Mapping[str, TaskDef], splits: Mapping[str, Prepared]) -> None:
        """Chooses the units of new heads. A head that several tasks train has one unit, from the rows of all of them.

        ``tasks``: the training tasks. ``splits``: their training rows. Both are by name.
        """
        for name, head in self.heads.items():
            if isinstance(units := getattr(head, "units", None), Units) and name not in self._trained:
                rows = [split for task, split in splits.items() if self._owner[task] == name]
                labels = [split.soft if split.labels is None else split.labels for split in rows]
                units.fit(tasks[name], np.concatenate([np.ravel(values) for values in labels if values is not None]))

    def load_head(self, task: str, weights: Mapping[str, Tensor]) -> None:
        """Gives the new head of a task the weights of a trained one, and its units. It may lack buffers."""
        self.heads[task].load_state_dict(dict(weights), strict=False)
        self._trained.add(task)

    def upto(self, level: Level, batch: Batch, words: Tensor | None = None) -> Tensor:
        """The hidden states at a level, (T, H): 0, the word embeddings; ``embeddings``; or r, the output of block r.

        ``words``, (T, H), are used instead of the word embeddings of the batch's tokens.
        """
        return self.encoder.upto(level, batch, words)

    def resume(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """The logits (N, C) from the hidden states at a level."""
        head = self.heads[self._owner[batch.task]]
        read = self.encoder.resume if head.reads_tokens else self.encoder.resume_pooled
        return head(read(state, level, batch), batch)

    def forward(self, batch: Batch) -> Tensor:
        """The logits (N, C) of the batch's N decisions."""
        return self.resume(self.upto(0, batch), 0, batch)
