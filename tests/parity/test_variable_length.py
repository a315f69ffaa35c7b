"""Attention of sequences of different lengths in one call: the same as padded, and as one sequence after the other.

The operators need a GPU (tests/gpu). Here the plain formula stands in for them.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mt_dnn.encoders import attention
from mt_dnn.encoders.variable_length import Layout, _agrees, efficient, flash, kernel_for, works
from tests.parity.test_encoder import EVEN, RAGGED, SINGLE, fresh, make_batch


def formula(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scale: float | None) -> Tensor:
    """What the operators compute, with their arguments and without dropout."""
    query_bounds, key_bounds = layout.query_bounds, layout.key_bounds
    assert query_bounds.dtype == key_bounds.dtype == torch.int32 and dropout == 0.0
    assert layout.most_queries == query_bounds.diff().max() and layout.most_keys == key_bounds.diff().max()
    queries, keys, values = (
        part.transpose(0, 1).split(bounds.diff().tolist(), dim=1)
        for part, bounds in ((query, query_bounds), (key, key_bounds), (value, key_bounds))
    )
    read = [F.scaled_dot_product_attention(q, k, v, scale=scale) for q, k, v in zip(queries, keys, values, strict=True)]
    return torch.cat(read, dim=1).transpose(0, 1)


class Accelerator:
    """Lets attention think that its tensors are on an accelerator. Counts its ways."""

    def __init__(self, patch: pytest.MonkeyPatch, kernel: Any) -> None:
        self.padded = self.together = 0
        padded, together = attention._padded, attention._without_padding

        def count(name: str, function: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> Any:
                result = function(*args, **kwargs)
                setattr(self, name, getattr(self, name) + (result is not None))
                return result

            return run

        def accelerated(parts: Any, batch: Any, dropout: Any, scale: Any) -> Any:
            read = attention._without_padding(parts, batch, dropout, scale)
            return attention._padded(parts, batch, dropout, scale) if read is None else read

        patch.setattr(attention, "_padded", count("padded", padded))
        patch.setattr(attention, "_without_padding", count("together", together))
        patch.setattr(attention, "_sequence_by_sequence", accelerated)
        patch.setattr(attention, "kernel_for", lambda query: kernel)


@pytest.mark.parametrize("lengths", [RAGGED, EVEN, SINGLE])
@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_all_ways_give_the_same_states_and_gradients(
    family: str, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All states, and those of first tokens from the shortened last block."""
    encoder, batch = fresh(family).double(), make_batch(lengths)
    found = []
    for kernel, padded, together in ((None, 3 + 2, 0), (formula, 0, 3 + 3), ("none", 0, 0)):
        with monkeypatch.context() as patch:
            ways = Accelerator(patch, kernel) if kernel != "none" else None
            encoder.zero_grad()
            hidden, firsts = encoder(batch), encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
            (hidden.sin().sum() + firsts.sin().sum()).backward()
            if ways is not None:
                assert (ways.padded, ways.together) == (padded, together)
            found.append([hidden, firsts, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    for other in found[:2]:
        for a, b in zip(other, found[2], strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-10)


def test_the_switch_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, batch = fresh("bert"), make_batch()
    asked: list[Any] = []
    monkeypatch.setattr(attention, "kernel_for", lambda query: asked.append(query))
    encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    assert len(asked) == 1  # the last block's; on a CPU the others have a way of their own
    encoder.joins_sequences = False
    encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    assert len(asked) == 1


def test_a_cpu_has_no_operator() -> None:
    query = torch.zeros(4, 2, 64)
    assert kernel_for(query) is None and not works(efficient, torch.float32, 64, query.device)
    assert not works(flash, torch.bfloat16, 64, query.device)


@pytest.mark.parametrize("size", [12, 264])
def test_some_head_sizes_have_no_operator(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from mt_dnn.encoders import variable_length

    monkeypatch.setattr(variable_length, "works", lambda *args: True)
    assert kernel_for(torch.zeros(4, 2, 64)) is efficient and kernel_for(torch.zeros(4, 2, size)) is None
    assert kernel_for(torch.zeros(4, 2, 64, dtype=torch.bfloat16)) is flash


def with_dropout(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scale: Any) -> Tensor:
    """An operator of the CPU."""
    return F.dropout(formula(query, key, value, layout, 0.0, scale), dropout)


@pytest.mark.parametrize("size", [8, 64, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trial_sees_wrong_operators(dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)

    def agrees(change: Any) -> bool:
        def kernel(query: Tensor, key: Tensor, value: Tensor, *arguments: Any) -> Tensor:
            return with_dropout(*change(query, key, value), *arguments)

        return _agrees(kernel, dtype, size, torch.device("cpu"))

    assert agrees(lambda query, key, value: (query, key, value))
    assert not agrees(lambda query, key, value: (query * 1.3, key, value))
    assert not agrees(lambda query, key, value: (query, key, value.roll(1, 0)))
    assert not agrees(lambda query, key, value: (query.detach() + 0 * query, key, value))


def test_a_trial_in_a_checkpointed_block_leaves_no_trace() -> None:
    """The block runs again in the backward pass, without the trial."""
    tried: list[bool] = []

    def block(state: Tensor) -> Tensor:
        if not tried:
            tried.append(_agrees(with_dropout, torch.float32, 64, state.device))
        return state.sin().exp()

    state = torch.randn(3, requires_grad=True)
    checkpoint(block, state, use_reentrant=False).sum().backward()
    assert tried == [True]
    torch.testing.assert_close(state.grad, state.detach().sin().exp() * state.detach().cos())


@pytest.mark.parametrize("fault", [RuntimeError("no such kernel\nmore"), False], ids=["error", "other numbers"])
def test_an_operator_that_is_not_used_is_named(
    fault: Exception | bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mt_dnn.encoders import variable_length

    def trial(*args: object) -> bool:
        if isinstance(fault, Exception):
            raise fault
        return fault

    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    monkeypatch.setattr(variable_length, "_agrees", trial)
    assert not works.__wrapped__(flash, torch.bfloat16, 64, torch.device("cuda"))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "flash operator is not used here (" in said
