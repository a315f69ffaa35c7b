"""Attention over groups of sequences of like length: what one call per sequence gives, with the same masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.attention import attend, attend_from_firsts
from mt_dnn.encoders.dropout import Dropout, Masks, number_dropouts
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.like_lengths import MOST, NARROW, layout_of
from tests.parity.test_encoder import EVEN, PACKED, RAGGED, SINGLE, fresh, gradients, make_batch
from tests.unit.training.test_word_gradients import MODES, updated
from tests.workspace import make_workspace

MANY = (90, 3, 41, 1, 40, 2, 12, 11, 3, 7, 39, 150, 8)
EVERY = (RAGGED, EVEN, SINGLE, MANY)


class Attention(nn.Module):
    """What ``attend`` reads of a block's attention module."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = Dropout(p)


def attended(*parts: Tensor, batch: Batch, together: bool, p: float = 0.3) -> Tensor:
    """The output of ``attend`` in the first pass of a batch."""
    masks = Masks(3)
    with masks.last_part(batch, begins=True):
        return attend(Attention(p), *parts, None, packed=batch, together=together, dropout=p)[0]


def parts_of(lengths: tuple[int, ...], heads: int = 3) -> list[Tensor]:
    """Query, key and value, (1, heads, T, d), laid out in memory as linear layers leave them."""
    torch.manual_seed(0)
    shape = 1, sum(lengths), heads, 4
    return [torch.randn(shape, dtype=torch.float64).transpose(1, 2).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("lengths", EVERY)
def test_outputs_and_gradients_are_those_of_single_sequences(lengths: tuple[int, ...]) -> None:
    parts, batch = parts_of(lengths), make_batch(lengths)
    found = []
    for together in (False, True):
        output = attended(*parts, batch=batch, together=together)
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        loss = (output * weights).sum()
        first = torch.autograd.grad(loss, parts, retain_graph=True)
        found.append((output, *first))
        again = torch.autograd.grad(loss, parts)  # adversaries go backward twice through one graph
        torch.testing.assert_close(again, first, rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)  # the former takes its softmax in float32
    assert not torch.equal(found[1][0], attended(*parts, batch=batch, together=True, p=0.0))


def test_gradients_are_those_of_finite_differences() -> None:
    lengths = (3, 1, 2, 3)
    parts = parts_of(lengths, heads=2)
    assert torch.autograd.gradcheck(partial(attended, batch=make_batch(lengths), together=True), parts)


@pytest.mark.parametrize("lengths", EVERY)
def test_first_tokens_read_what_they_read_of_padded_sequences(lengths: tuple[int, ...]) -> None:
    (query, key, value), batch = parts_of(lengths), make_batch(lengths)
    query = query.detach()[:, :, batch.offsets[:-1]].requires_grad_()
    found = []
    for together in (False, True):
        with Masks(3).last_part(batch, begins=True):
            output = attend_from_firsts(Attention(0.3), query, key, value, batch, together=together)
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        found.append((output, *torch.autograd.grad((output * weights).sum(), (query, key, value))))
    assert found[0][0].shape == (1, len(lengths), 3, 4)
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)  # the former takes its softmax in float32


@pytest.mark.parametrize("keys", [3, NARROW - 1, NARROW, 40])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_softmax_is_that_of_torch_without_padding(keys: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    group = next(iter(layout_of((keys, keys - 1), 2).groups))
    scores = 300 * torch.randn(4, keys, keys, dtype=dtype)  # far beyond what exp can take
    wide = torch.promote_types(dtype, torch.float32)
    expected = torch.zeros(4, keys, keys, dtype=wide)
    expected[:2] = scores[:2].softmax(2, dtype=wide)
    expected[2:, :, :-1] = scores[2:, :, :-1].softmax(2, dtype=wide)
    torch.testing.assert_close(group.softmax(scores, wide), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("lengths", [(20,) * 6, (100,), MANY])
def test_rounding_to_16_bits_costs_no_more_than_for_single_sequences(lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shape, batch = (1, sum(lengths), 3, 64), make_batch(lengths)
    rounded = [torch.randn(shape, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3)]
    rounded[2] += 3  # outputs far from 0
    weights = torch.randn(shape, dtype=torch.bfloat16)

    def gradients_in(dtype: torch.dtype, *, together: bool) -> tuple[Tensor, ...]:
        parts = [part.to(dtype).requires_grad_() for part in rounded]
        return torch.autograd.grad(attended(*parts, batch=batch, together=together), parts, weights.to(dtype))

    exact = gradients_in(torch.float64, together=False)
    singly, grouped = (
        [
            float((a - b).norm() / b.norm())
            for a, b in zip(gradients_in(torch.bfloat16, together=way), exact, strict=True)
        ]
        for way in (False, True)
    )
    assert all(grouped_error < 1.15 * single_error for grouped_error, single_error in zip(grouped, singly, strict=True))


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("family", PACKED)
def test_encoders_have_the_same_states_and_gradients(family: str, p: float) -> None:
    batch = make_batch(MANY[1:10])
    encoder = fresh(family, attention_probs_dropout_prob=p, max_position_embeddings=64).double().train()
    number_dropouts(encoder)
    found = []
    for encoder.joins_sequences in (False, True):
        encoder.zero_grad()
        states = run(encoder, batch)
        found.append((states, gradients(encoder, states)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


def run(encoder: Encoder, batch: Batch) -> Tensor:
    with Masks(5).last_part(batch, begins=True):
        return encoder(batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alike")
    make_workspace(folder, train_rows=24)
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_three_updates_are_the_same_in_every_mode(mode: str, folder: Path) -> None:
    """With plain gradient descent: Adam would make steps of rounding where a gradient is 0, as that of a key's bias."""
    options = (*f"adversary.mode={mode}".split(","), "optimizer.name=sgd", "optimizer.lr=0.1")
    paths = (f"train.fast_paths=[{names}]" for names in ("dropout,last_block", "dropout,last_block,attention"))
    (norms, weights), (fast_norms, fast_weights) = (updated(folder, *options, path) for path in paths)
    torch.testing.assert_close(fast_norms, norms, rtol=1e-5, atol=0)
    for name, weight in weights.items():
        torch.testing.assert_close(fast_weights[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first_tokens", [False, True])
@pytest.mark.parametrize("lengths", [*EVERY, (5,) * 2000])
def test_every_sequence_is_in_one_group(lengths: tuple[int, ...], first_tokens: bool) -> None:
    layout, heads = layout_of(lengths, 3, first_tokens=first_tokens), 3
    numbers = [number for group in layout.groups for number in group.sequences]
    assert sorted(numbers) == list(range(len(lengths)))
    assert len(layout.groups) < len(lengths) or len(lengths) == 1
    starts = make_batch(lengths).offsets[:-1]
    states = torch.arange(sum(lengths) * heads).view(-1, heads, 1)
    queries = states[starts] if first_tokens else states
    for order, rows in ((layout.keys, states), (layout.queries, queries)):
        assert order.restored(order.arranged(rows), heads).equal(rows)
    for group in layout.groups:
        sizes = [lengths[number] for number in group.sequences]
        assert group.shape == (len(sizes), heads, 1 if first_tokens else max(sizes), max(sizes))
        assert len(sizes) == 1 or len(sizes) * max(sizes) ** 2 <= MOST
        keys = group.keys(layout.keys.arranged(states)).unflatten(0, (-1, heads))
        for number, length, found in zip(group.sequences, sizes, keys, strict=True):
            assert found[:, :length].transpose(0, 1).equal(states[starts[number] :][:length])
            if first_tokens:
                row = group.first_query + heads * group.sequences.index(number)
                assert layout.queries.arranged(queries)[row : row + heads].equal(queries[number])


def test_only_the_fast_path_makes_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def attend_alike(*arguments: Any) -> None:
        calls.append(arguments)

    monkeypatch.setattr("mt_dnn.encoders.attention.attend_alike", attend_alike)
    parts, batch = parts_of(RAGGED), make_batch(RAGGED)
    attended(*parts, batch=batch, together=False)
    attended(*parts, batch=batch, together=True, p=0.0)
    attend(Attention(0.3), *parts, None, packed=batch, together=True, dropout=0.3)  # masks from torch's generator
    assert not calls
    attended(*parts, batch=batch, together=True)
    assert len(calls) == 1
