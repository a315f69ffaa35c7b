"""A last block that computes the states of first tokens only.

A head such as a classifier reads the first token of each sequence. So the last block needs the keys and values of all
tokens, but the queries and all that follows only of the first ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.attention import attend_from_firsts


class _FirstTokens(nn.Module):
    """Goes in front of the attention class of a BERT-like family (see ``PACKED_FAMILIES``)."""

    def forward(
        self,
        hidden_states: Tensor,
        *args: Any,
        packed: Batch | None = None,
        first_tokens: bool = False,
        together: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Like the family's attention. With ``first_tokens`` from (1, T, H) to (1, S, H), the first tokens only."""
        if not first_tokens:
            return super().forward(hidden_states, *args, packed=packed, together=together, **kwargs)
        assert packed is not None
        layer: Any = self.self
        firsts = hidden_states.index_select(1, packed.offsets[:-1])
        query, key, value = (
            linear(states).unflatten(2, (-1, layer.attention_head_size)).transpose(1, 2)
            for linear, states in ((layer.query, firsts), (layer.key, hidden_states), (layer.value, hidden_states))
        )
        read = attend_from_firsts(layer, query, key, value, packed, together=together)  # (1, S, heads, d)
        output: Any = self.output
        return output(read.flatten(2), firsts), None


def allow_first_tokens(attention: nn.Module) -> None:
    """Lets the attention of a block take ``first_tokens=True``. Weights and their names stay as they are."""
    family = type(attention)
    attention.__class__ = type(family.__name__, (_FirstTokens, family), {})
