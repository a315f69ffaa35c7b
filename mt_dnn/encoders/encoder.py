"""The shared encoder: a transformers model with two methods, ``upto(level)`` and ``resume(state, level)``.

Level 0 is the output of the word-embedding table, before positions, segments and LayerNorm. Level ``embeddings`` is the
output of the whole embedding module, as it goes into block 1. Level r is the output of block r; blocks are counted from
1. States are packed, (T, H): T is the number of tokens of all sequences of the batch, without padding. Only padded.py
and attention.py know padding tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data_utils.errors import UserError
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.block_states import input_states
from mt_dnn.encoders.family import FAMILY_HEADS, FamilyLayers
from mt_dnn.encoders.pooling import POOLINGS, ScalarMix, attended, first_tokens, initialised
from mt_dnn.encoders.transformer import Transformer

Level = int | Literal["embeddings"]
EMBEDDINGS: Literal["embeddings"] = "embeddings"

FIRST_TOKEN_POOLERS = ("pretrained", "fresh", "cls")  # values of encoder.pooler that always read first tokens only


class Encoder(Transformer, ABC):
    """A transformers model that runs on batches of packed tokens.

    ``attention``: how the model runs, ``packed`` or ``padded``.
    ``pooler_source``: how ``pool`` makes the vector of a sequence, one of the values of the setting ``encoder.pooler``.
    ``mix``: mixes the states of all levels into the final state. None: the final state is the output of the last block.
    ``draws_masks``: in training dropout masks come from dropout.py. False: from torch's global generator.
    ``shortens_last_block``: where heads read only first tokens, the last block computes no others, if the family allows
    it (first_tokens.py).
    ``joins_sequences``: on packed batches, attention takes sequences of different lengths together where it is faster
    (variable_length.py on an accelerator, like_lengths.py on a CPU).
    ``untrained_pooler``: the weights of ``pool`` are random, and nothing will train them.
    ``reads_token_types``: False: all are zero, whatever the batch says.
    """

    attention: str
    untrained_pooler = False
    reads_token_types = True
    draws_masks = True
    joins_sequences = True
    shortens_last_block = True

    def __init__(
        self, model: Any, *, pooler: str, has_pooler: bool, scalar_mix: bool, ignored_weights: list[str]
    ) -> None:
        super().__init__(model, ignored_weights)
        self.pooler: nn.Linear | FamilyLayers | None = None
        self.mix = ScalarMix(self.num_layers + 1) if scalar_mix else None
        dense = pooler in ("pretrained", "fresh")
        if not dense:
            model.pooler = None  # this pooler of the family would never be trained
        if pooler == "attention":
            self.pooler = initialised(nn.Linear(self.hidden_size, 1, bias=False), self.initializer_range)
        elif pooler == "family":
            self.pooler = FamilyLayers(model.config)
        elif dense and getattr(model, "pooler", None) is None:
            self.pooler = nn.Linear(self.hidden_size, self.hidden_size)
        self.pooler_source = "fresh" if dense and not has_pooler else pooler
        if self.pooler_source == "fresh":
            initialised(self.pooler_dense, self.initializer_range)

    @property
    def pooler_dense(self) -> nn.Linear:
        """The linear layer of the pooler: the model's if the family has one, otherwise the encoder's."""
        pooler = self.model.pooler if self.pooler is None else self.pooler
        return pooler if isinstance(pooler, nn.Linear) else pooler.dense

    @property
    def reads_first_tokens(self) -> bool:
        """Whether ``pool`` reads only the state of the first token of each sequence."""
        of_family = isinstance(self.pooler, FamilyLayers) and self.pooler.pooling == "cls"
        return of_family or self.pooler_source in FIRST_TOKEN_POOLERS

    def token_types(self, batch: Batch) -> Tensor:
        """The token types of the batch, (T,). All are zero if the model has fewer than two, or reads none."""
        known = getattr(self.model.config, "type_vocab_size", 0)
        return batch.token_type_ids if self.reads_token_types and known > 1 else torch.zeros_like(batch.token_type_ids)

    def token_layers(self) -> nn.Module:
        """New layers between the encoder and a head that reads tokens. With most poolers they change nothing."""
        of_family = isinstance(self.pooler, FamilyLayers) and FAMILY_HEADS[self.model.config.model_type].on_tokens
        return FamilyLayers(self.model.config) if of_family else nn.Identity()

    def upto(self, level: Level, batch: Batch, words: Tensor | None = None) -> Tensor:
        """The state at a level, (T, H), computed from ``words`` (T, H), by default the word embeddings of the batch.

        Raises:
            UserError: the encoder has fewer blocks.
        """
        self._check_level(level)
        if words is None:
            words = self.model.get_input_embeddings()(batch.input_ids)
        return words if level == 0 else self._run_upto(words, level, batch)

    def resume(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """The final hidden states (T, H), computed from the state (T, H) at a level.

        With a scalar mix they are the mix of the states that go into each block and of the output of the last block.

        Raises:
            UserError: the encoder has fewer blocks, or it has a scalar mix and ``level`` is the output of a block.
        """
        self._check_level(level)
        if self.mix is None:
            return self._run_from(state, level, batch)
        if blocks_below(level) > 0:
            raise UserError(f"level {level}: encoder.scalar_mix reads the states below this level too; set it to false")
        with input_states(self.blocks) as states:
            final = self._run_from(state, level, batch)
        return self.mix([*(self._packed(state, batch) for state in states), final])

    def resume_pooled(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """What ``pool`` makes of ``resume``, (S, H), from the state (T, H) at a level.

        If only the states of first tokens are read, the last block computes no others where the family allows it.
        """
        if self.mix is not None or not self.reads_first_tokens:
            return self.pool(self.resume(state, level, batch), batch)
        self._check_level(level)
        return self._of_first_tokens(self._run_firsts(state, level, batch))

    def forward(self, batch: Batch) -> Tensor:
        """The final hidden states of a batch, (T, H)."""
        return self.resume(self.upto(0, batch), 0, batch)

    def pool(self, hidden: Tensor, batch: Batch) -> Tensor:
        """One vector for each of S sequences: (T, H) → (S, H), as ``pooler_source`` says.

        ``pretrained`` and ``fresh`` are BERT's pooler: tanh(W h + b) of the first token. ``cls``, ``mean`` and ``max``
        have no weights. ``attention`` is Σ_t softmax_t(w·h_t) h_t over the tokens of a sequence, w a learned query.
        ``family`` is what transformers' classifier of this family computes (family.py).
        """
        if self.pooler_source in POOLINGS:
            return POOLINGS[self.pooler_source](hidden, batch)
        if isinstance(self.pooler, FamilyLayers):
            return self.pooler(POOLINGS[self.pooler.pooling](hidden, batch))
        if self.pooler_source == "attention":
            assert self.pooler is not None
            return attended(batch.pad(self.pooler(hidden))[..., 0], batch.pad(hidden), batch.mask[:, 0, 0])
        return self._of_first_tokens(first_tokens(hidden, batch))

    def _of_first_tokens(self, firsts: Tensor) -> Tensor:
        """The pooled vectors (S, H) from the final states of first tokens, (S, H)."""
        if isinstance(self.pooler, FamilyLayers):
            return self.pooler(firsts)
        return firsts if self.pooler_source == "cls" else torch.tanh(self.pooler_dense(firsts))

    def _run_firsts(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """The final hidden state of the first token of each sequence, (S, H), from the state (T, H) at a level."""
        return first_tokens(self._run_from(state, level, batch), batch)

    def _check_level(self, level: Level) -> None:
        if not 0 <= blocks_below(level) <= self.num_layers:
            raise UserError(f"level {level}: an encoder of {self.num_layers} blocks has levels 0-{self.num_layers}")

    @abstractmethod
    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        """The state that goes into a block, in the model's layout, as (T, H)."""

    @abstractmethod
    def _run_upto(self, words: Tensor, level: Level, batch: Batch) -> Tensor:
        """The state at a level other than 0, (T, H), computed from word embeddings (T, H)."""

    @abstractmethod
    def _run_from(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        """The final hidden states (T, H), computed from the state (T, H) at a level."""


def blocks_below(level: Level) -> int:
    """How many blocks have run at a level: r at level r, none at levels 0 and ``embeddings``."""
    return 0 if level == EMBEDDINGS else level
