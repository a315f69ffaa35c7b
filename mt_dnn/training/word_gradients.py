"""Gradients of word embeddings as rows.

A vocabulary has tens of thousands of tokens, and a batch has some hundreds of them. So torch gives the gradient of the
table as rows, a sparse tensor, and only the optimizer gets a dense one. All gradients have the same values as without
this, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mt_dnn.tasks.model import Model


@contextmanager
def as_rows(model: Model, *, enabled: bool) -> Iterator[None]:
    """In this context the gradient of the table of word embeddings has only the rows that passes have looked up."""
    table = model.encoder.model.get_input_embeddings()
    if not enabled or type(table) is not nn.Embedding:
        yield
        return
    table.sparse = True
    try:
        yield
    finally:
        table.sparse = False


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float | None) -> Tensor:
    """Like torch's ``clip_grad_norm_``, also with sparse gradients. Returns the norm before clipping, a scalar.

    ``max_norm``: None: the norm is computed only.
    """
    for parameter in parameters:
        assert parameter.grad is not None
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    if not any(_has_rows(parameter) for parameter in parameters):
        return nn.utils.clip_grad_norm_(parameters, max_norm or float("inf"))
    gradients = [g._values() if g.is_sparse else g for p in parameters if (g := p.grad) is not None]
    norm = nn.utils.get_total_norm(gradients)
    factor = 1.0 if max_norm is None else max_norm / (norm + 1e-6)
    if not factor >= 1:  # also if it is not a number; a product with 1 would change nothing
        torch._foreach_mul_(gradients, factor)
    return norm


class DenseGradients:
    """Dense gradients for an optimizer in place of sparse ones. Their memory is kept from update to update."""

    def __init__(self) -> None:
        self._buffers: dict[nn.Parameter, Tensor] = {}

    @contextmanager
    def of(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """As long as the context is open, each coalesced sparse gradient of the parameters is a dense one."""
        used = []
        for parameter in parameters:
            if _has_rows(parameter):
                assert parameter.grad is not None
                rows, values = parameter.grad._indices()[0], parameter.grad._values()
                if parameter not in self._buffers:
                    self._buffers[parameter] = torch.zeros_like(parameter)
                parameter.grad = buffer = self._buffers[parameter].index_copy_(0, rows, values)
                used.append((buffer, rows))
        yield
        for buffer, rows in used:
            buffer.index_fill_(0, rows, 0.0)


def _has_rows(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse
