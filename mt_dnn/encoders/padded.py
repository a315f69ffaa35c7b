"""Encoders that run on padded batches, (S, L, H), for every family that packed.py does not list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.block_states import with_input_state, with_output_state
from mt_dnn.encoders.encoder import Encoder, Level, blocks_below


class PaddedEncoder(Encoder):
    """Runs any transformers encoder on padded batches. Outside of this class states are packed, (T, H).

    The state at level r is what goes into block r + 1. It may differ from the output of block r, because some families
    compute more between two blocks. The state at level ``embeddings`` is what goes into block 1. ``upto`` runs the
    whole model and keeps the state at the level. ``resume`` from a level other than 0 also runs the whole model, and
    replaces the state at the level by the given one.
    """

    attention = "padded"

    def _packed(self, state: Tensor, batch: Batch) -> Tensor:
        return batch.unpad(state)

    def _run_upto(self, words: Tensor, level: Level, batch: Batch) -> Tensor:
        captured: list[Tensor] = []

        def keep(state: Tensor) -> Tensor:
            captured.append(state)
            return state

        with self._at(level, keep):
            self._run(words, batch)
        return self._packed(captured[0], batch)

    def _run_from(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        if level == 0:
            return self._run(state, batch)
        padded = batch.pad(state)
        words = self.model.get_input_embeddings()(batch.input_ids).detach()
        with self._at(level, lambda _: padded):
            return self._run(words, batch)

    def _run(self, words: Tensor, batch: Batch) -> Tensor:
        inputs = {"inputs_embeds": batch.pad(words), "attention_mask": batch.mask[:, 0, 0].long()}
        if "token_type_ids" in inspect.signature(self.model.forward).parameters:
            inputs["token_type_ids"] = batch.pad(self.token_types(batch))
        return batch.unpad(self.model(**inputs).last_hidden_state)

    @contextmanager
    def _at(self, level: Level, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Applies ``change`` to the padded state at this level, (S, L, H), as long as the context is open."""
        number = blocks_below(level)
        if number == self.num_layers:
            hook = self.blocks[-1].register_forward_hook(lambda _, __, output: with_output_state(output, change))
        else:
            hook = self.blocks[number].register_forward_pre_hook(  # first, so that a scalar mix reads the new state
                lambda _, args, kwargs: with_input_state(args, kwargs, change), prepend=True, with_kwargs=True
            )
        try:
            yield
        finally:
            hook.remove()
