"""Encoders that run on packed tokens."""

from __future__ import annotations

from torch import Tensor

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder, first, token_types

PACKED_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")


class PackedEncoder(Encoder):
    """BERT, RoBERTa, XLM-R and ELECTRA: their own embeddings and blocks, run on (1, T, H)."""

    attention = "packed"

    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        return state[0]

    def _run_upto(self, words: Tensor, level: int, batch: Batch) -> Tensor:
        return self._run(words, 0, level, batch)

    def _run_from(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        return self._run(state, level, self.num_layers, batch)

    def _run(self, state: Tensor, start: int, stop: int, batch: Batch) -> Tensor:
        """Blocks ``start`` + 1 to ``stop``; from level 0 the rest of the embedding module comes first."""
        state = state[None]
        if start == 0:
            state = self.model.embeddings(
                inputs_embeds=state,
                token_type_ids=token_types(self.model.config, batch)[None],
                position_ids=batch.position_ids[None] + self.position_offset,
            )
            if hasattr(self.model, "embeddings_project"):  # ELECTRA with small embeddings
                state = self.model.embeddings_project(state)
        for block in self.blocks[start:stop]:
            state = first(block(state, None, packed=batch))
        return state[0]
