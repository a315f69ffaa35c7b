"""Encoders that run on packed tokens: all sequences of a batch, one after the other, without padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.block_states import output_state
from mt_dnn.encoders.encoder import Encoder, Level, blocks_below
from mt_dnn.encoders.first_tokens import allow_first_tokens

# Families whose blocks call the attention function that their configuration names, as BERT's do, and whose attention
# modules hold their dropout as ``dropout``. All other families run padded.
PACKED_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")


class PackedEncoder(Encoder):
    """Runs the embeddings and blocks of a transformers model on all tokens of a batch as one sequence, (1, T, H).

    Attention (attention.py) keeps the sequences of the batch apart.
    """

    attention = "packed"

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(model, **options)
        allow_first_tokens(self.blocks[-1].get_submodule("attention"))

    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        return state[0]

    def _run_upto(self, words: Tensor, level: Level, batch: Batch) -> Tensor:
        return self._run(words, 0, level, batch)

    def _run_from(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        return self._run(state, level, self.num_layers, batch)

    def _run_firsts(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        last = self.num_layers - 1
        if blocks_below(level) > last or not self.shortens_last_block:
            return super()._run_firsts(state, level, batch)
        below = self._run(state, level, last, batch)
        return output_state(
            self.blocks[last](below[None], None, packed=batch, together=self.joins_sequences, first_tokens=True)
        )[0]

    def _run(self, state: Tensor, start: Level, stop: Level, batch: Batch) -> Tensor:
        """Computes the state at level ``stop`` from the state at level ``start``, both (T, H).

        From level 0 the state first goes through the rest of the embeddings: positions, token types, LayerNorm.
        """
        state = state[None]
        if start == 0:
            state = self.model.embeddings(
                inputs_embeds=state,
                token_type_ids=self.token_types(batch)[None],
                position_ids=batch.position_ids[None] + self.position_offset,
            )
            if hasattr(self.model, "embeddings_project"):  # ELECTRA with small embeddings
                state = self.model.embeddings_project(state)
        for block in self.blocks[blocks_below(start) : blocks_below(stop)]:
            state = output_state(block(state, None, packed=batch, together=self.joins_sequences))
        return state[0]
