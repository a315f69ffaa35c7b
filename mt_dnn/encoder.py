"""The shared encoder: a transformers model behind two verbs, ``upto(level)`` and ``resume(state, level)``.

Level 0 is the output of the word-embedding table, before positions, segments and LayerNorm; level r is the
output of block r, counted from 1. States are packed, (T, H): no padding token exists outside this file and
attention.py.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_utils.errors import UserError
from mt_dnn import attention as packed_attention
from mt_dnn.batch import Batch
from mt_dnn.heads import initialised
from mt_dnn.pooling import POOLINGS, ScalarMix, attended, first_tokens
from mt_dnn.pretrained import (
    ATTENTION_DROPOUT_NAMES,
    DROPOUT_NAMES,
    find_blocks,
    fresh_model,
    keep_blocks,
    load_weights,
    make_config,
    quiet,
    read_config,
    set_dropout,
)

PACKED_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")
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


class PaddedEncoder(Encoder):
    """Any other AutoModel, padded inside this class only.

    The state at level r is what enters block r + 1: some families do more between two blocks than pass the
    output on. ``upto`` runs the whole model, and so does ``resume`` from above level 0: below, the blocks run
    on the words, and what they give is dropped in favour of the state.
    """

    attention = "padded"

    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        return batch.unpad(state)

    def _run_upto(self, words: Tensor, level: int, batch: Batch) -> Tensor:
        captured: list[Tensor] = []

        def keep(state: Tensor) -> Tensor:
            captured.append(state)
            return state

        with self._at(level, keep):
            self._run(words, batch)
        return self._packed(captured[0], batch)

    def _run_from(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        if level == 0:
            return self._run(state, batch)
        padded = batch.pad(state)
        words = self.model.get_input_embeddings()(batch.input_ids).detach()
        with self._at(level, lambda _: padded):
            return self._run(words, batch)

    def _run(self, words: Tensor, batch: Batch) -> Tensor:
        inputs = {"inputs_embeds": batch.pad(words), "attention_mask": batch.mask[:, 0, 0].long()}
        if "token_type_ids" in inspect.signature(self.model.forward).parameters:
            inputs["token_type_ids"] = batch.pad(token_types(self.model.config, batch))
        return batch.unpad(self.model(**inputs).last_hidden_state)

    @contextmanager
    def _at(self, level: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Within it, the padded state at this level, (B, L, H), is what ``change`` makes of it."""
        if level == self.num_layers:
            hook = self.blocks[-1].register_forward_hook(lambda _, __, output: with_first(output, change))
        else:
            hook = self.blocks[level].register_forward_pre_hook(
                lambda _, args, kwargs: with_state(args, kwargs, change), with_kwargs=True
            )
        try:
            yield
        finally:
            hook.remove()


def load_encoder(
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    attention: str = "auto",
    pooler: str = "pretrained",
    scalar_mix: bool = False,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    blocks: Sequence[int] | None = None,
) -> Encoder:
    """A pretrained encoder by ``name`` (hub, folder, ``package:…``), or these of its blocks; or a fresh one from
    ``config``.

    Raises:
        UserError: it does not exist, is damaged or lacks weights, or its family cannot do what is asked.
    """
    settings = read_config(name) if name is not None else make_config(config or {})
    set_dropout(settings, dropout, DROPOUT_NAMES, "encoder.dropout")
    set_dropout(settings, attention_dropout, ATTENTION_DROPOUT_NAMES, "encoder.attention_dropout")
    if name is None and blocks is not None:
        raise UserError("encoder.blocks: a fresh encoder has as many as its num_hidden_layers; leave it out")
    packs = settings.model_type in PACKED_FAMILIES and not getattr(settings, "is_decoder", False)
    if attention == "packed" and not packs:
        known = ", ".join(PACKED_FAMILIES)
        raise UserError(
            f"encoder.attention: '{settings.model_type}' cannot be packed (only {known}); use auto or padded"
        )
    packs = packs and attention != "padded"
    chosen = {"attn_implementation": packed_attention.NAME} if packs else {}
    missing: list[str] = []
    ignored: list[str] = []
    if name is None:
        model = fresh_model(settings, **chosen)
    else:
        model, missing, ignored = load_weights(name, settings, **chosen)
    if blocks is not None:
        keep_blocks(model, blocks)
    reusable = name is not None and getattr(model, "pooler", None) is not None and not missing
    encoder = (PackedEncoder if packs else PaddedEncoder)(
        model,
        pooler=pooler,
        has_pooler=pooler == "pretrained" and reusable,
        scalar_mix=scalar_mix,
        ignored_weights=ignored,
    )
    return encoder.train()


def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function under activation checkpointing; dropout masks repeat."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


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
