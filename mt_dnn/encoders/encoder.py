"""The shared encoder: a transformers model behind two verbs, ``upto(level)`` and ``resume(state, level)``.

Level 0 is the output of the word-embedding table, before positions, segments and LayerNorm; level r is the
output of block r, counted from 1. States are packed, (T, H): no padding token exists outside this file and
attention.py.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_utils.errors import UserError
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.memory import recomputed
from mt_dnn.encoders.pooling import POOLINGS, ScalarMix, attended, first_tokens, initialised
from mt_dnn.encoders.pretrained import find_blocks, quiet

ABOVE_BLOCKS = ("pooler.", "mix.", "model.pooler.", "model.final_norm.")


class Encoder(nn.Module, ABC):
    """What all encoders share.

    ``attention``: packed or padded. ``pooler_source``: what a pooled vector is, as ``encoder.pooler`` names it.
    ``mix``: of the states of all levels, if final states are that. ``ignored_weights``: names in the checkpoint that
    this model has no place for, such as a language-modelling head's. ``runs_as_written``: neither compiled nor
    recomputed.
    """

    attention: str
    runs_as_written = True

    def __init__(
        self, model: Any, *, pooler: str, has_pooler: bool, scalar_mix: bool, ignored_weights: list[str]
    ) -> None:
        super().__init__()
        self.model = model
        self.ignored_weights = ignored_weights
        self.hidden_size: int = model.config.hidden_size
        self.num_layers: int = model.config.num_hidden_layers
        self.vocab_size: int = model.config.vocab_size
        self.initializer_range: float = getattr(model.config, "initializer_range", 0.02)
        self.blocks_name = f"model.{find_blocks(model)}"
        self.pooler: nn.Linear | None = None
        self.mix = ScalarMix(self.num_layers + 1) if scalar_mix else None
        dense = pooler in ("pretrained", "fresh")
        if not dense:
            model.pooler = None  # the family's own would never be trained
        if pooler == "attention":
            self.pooler = initialised(nn.Linear(self.hidden_size, 1, bias=False), self.initializer_range)
        elif dense and getattr(model, "pooler", None) is None:
            self.pooler = nn.Linear(self.hidden_size, self.hidden_size)
        self.pooler_source = "fresh" if dense and not has_pooler else pooler
        if self.pooler_source == "fresh":
            initialised(self.pooler_dense, self.initializer_range)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks; registered once, inside ``model``."""
        blocks = self.get_submodule(self.blocks_name)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def max_positions(self) -> int | None:
        """Longest sequence; None where positions are only relative."""
        config = self.model.config
        if getattr(config, "position_biased_input", True) is False:
            return None
        return getattr(config, "max_position_embeddings", 0) - self.position_offset or None

    @property
    def position_offset(self) -> int:
        """RoBERTa-like families count positions from padding_idx + 1."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else padding + 1

    @property
    def pooler_dense(self) -> nn.Linear:
        """The linear layer of BERT's pooler, the model's own where the family has one."""
        return self.model.pooler.dense if self.pooler is None else self.pooler

    def upto(self, level: int, batch: Batch, words: Tensor | None = None) -> Tensor:
        """State at a level, (T, H), from the word embeddings of the batch or from others (T, H).

        Raises:
            UserError: the encoder has fewer blocks.
        """
        self._check(level)
        if words is None:
            words = self.model.get_input_embeddings()(batch.input_ids)
        return words if level == 0 else self._run_upto(words, level, batch)

    def resume(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        """Final hidden states (T, H) from the state at a level; with a mix, that of all levels from the first block's.

        Raises:
            UserError: the encoder has fewer blocks, or a mix needs the levels below.
        """
        self._check(level)
        if self.mix is None:
            return self._run_from(state, level, batch)
        if level > 0:
            raise UserError(f"level {level}: encoder.scalar_mix reads the states below it too; set it to false")
        with self._entering() as states:
            final = self._run_from(state, level, batch)
        return self.mix([*(self._packed(entered, batch) for entered in states), final])

    def forward(self, batch: Batch) -> Tensor:
        """Final hidden states, (T, H)."""
        return self.resume(self.upto(0, batch), 0, batch)

    def pool(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(T, H) → (S, H): first token → linear → tanh, as BERT's pooler; or what ``pooler_source`` says.

        Attention is softmax(w·h) over the tokens of a sequence, w a learned query.
        """
        if self.pooler_source in POOLINGS:
            return POOLINGS[self.pooler_source](hidden, batch)
        if self.pooler_source == "attention":
            assert self.pooler is not None
            return attended(batch.pad(self.pooler(hidden))[..., 0], batch.pad(hidden), batch.mask[:, 0, 0])
        return torch.tanh(self.pooler_dense(first_tokens(hidden, batch)))

    def compile_blocks(self) -> None:
        """From here on ``torch.compile`` makes one kernel of several operations; attention stays as it is."""
        self.runs_as_written = False
        torch._functorch.config.donated_buffer = False  # adversaries go backward twice through one graph
        for block in self.blocks:
            block.forward = torch.compile(block.forward, dynamic=True)

    def recompute_activations(self) -> None:
        """From here on a block keeps what enters it for the backward pass, and runs again in that pass."""
        self.runs_as_written = False
        for block in self.blocks:
            block.forward = recomputed(block.forward)  # hooks stay outside

    def depth_of(self, name: str) -> int:
        """Depth of a parameter of this module: 0 embeddings, r block r, ``num_layers`` + 1 everything above.

        What feeds all blocks, such as relative positions, counts as embeddings.
        """
        block = re.match(rf"{re.escape(self.blocks_name)}\.(\d+)\.", name)
        if block:
            return int(block[1]) + 1
        return self.num_layers + 1 if name.startswith(ABOVE_BLOCKS) else 0

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Writes the model with these weights in Hugging Face format; ``AutoModel.from_pretrained`` reads it."""
        with quiet():
            self.model.save_pretrained(folder, state_dict=weights)

    def _check(self, level: int) -> None:
        if not 0 <= level <= self.num_layers:
            raise UserError(f"level {level}: an encoder of {self.num_layers} blocks has levels 0-{self.num_layers}")

    @contextmanager
    def _entering(self) -> Iterator[list[Tensor]]:
        """Within it, what enters each block is added to the list, as it enters."""
        states: list[Tensor] = []

        def keep(state: Tensor) -> Tensor:
            states.append(state)
            return state

        hooks = [
            block.register_forward_pre_hook(lambda _, args, kwargs: with_state(args, kwargs, keep), with_kwargs=True)
            for block in self.blocks
        ]
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()

    @abstractmethod
    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        """What enters a block, as (T, H)."""

    @abstractmethod
    def _run_upto(self, words: Tensor, level: int, batch: Batch) -> Tensor:
        """State at a level above 0, (T, H), from word embeddings (T, H)."""

    @abstractmethod
    def _run_from(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        """Final hidden states, (T, H)."""


def token_types(config: Any, batch: Batch) -> Tensor:
    """Token types (T,), all zero where the encoder knows a single one."""
    known = getattr(config, "type_vocab_size", 0)
    return batch.token_type_ids if known > 1 else torch.zeros_like(batch.token_type_ids)


def first(output: Any) -> Tensor:
    """A block's hidden state, whether it gives it alone or in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def with_first(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A block's output with its hidden state changed."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def with_state(args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]) -> Any:
    """A block's arguments with its hidden state changed; it is the first, by position or by name."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}
