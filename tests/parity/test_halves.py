"""Both halves of a batch at the same time: what the complete batch gives, with the same masks, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mt_dnn.encoders import packed
from mt_dnn.encoders.dropout import Masks, number_dropouts
from mt_dnn.encoders.encoder import EMBEDDINGS, Encoder, Level
from mt_dnn.encoders.halves import halves_of
from mt_dnn.encoders.memory import compile_blocks, recompute_activations
from mt_dnn.encoders.packed import PACKED_FAMILIES
from tests.parity.test_encoder import EVEN, RAGGED, SINGLE, fresh, make_batch
from tests.unit.training.test_word_gradients import MODES, folder, updated

__all__ = ["folder"]  # a fixture

LEVELS: list[Level] = [0, EMBEDDINGS, 1, 2, 3]
ALL = "attention,dropout,last_block,word_gradients"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of sequences of each batch that ran in halves."""
    calls: list[int] = []
    run_halves = packed.run_halves

    def counted(run: Any, state: Tensor, batch: Any, weights: Any) -> Tensor:
        calls.append(batch.sequences)
        return run_halves(run, state, batch, weights)

    monkeypatch.setattr(packed, "run_halves", counted)
    return calls


def trained(family: str = "bert", p: float = 0.3, **options: Any) -> Encoder:
    encoder = fresh(family, hidden_dropout_prob=p, attention_probs_dropout_prob=p, **options).double().train()
    number_dropouts(encoder)
    return encoder


def run(encoder: Encoder, level: Level, *, pools: bool, lengths: tuple[int, ...] = RAGGED) -> dict[str, Tensor]:
    """The output from the state at a level, and all gradients of a weighted sum of it."""
    batch, masks = make_batch(lengths), Masks(3)
    encoder.zero_grad()
    with masks.first_part(batch):
        state = encoder.upto(level, batch)
    state.retain_grad()
    with masks.last_part(batch, begins=level == 0):
        output = (encoder.resume_pooled if pools else encoder.resume)(state, level, batch)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    grads = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    assert state.grad is not None
    return {**grads, "state": state.grad, "output": output.detach()}


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_outputs_and_every_gradient_are_those_of_the_complete_batch(
    family: str, level: Level, pools: bool, calls: list[int]
) -> None:
    encoder = trained(family)
    encoder.halves_batches = False
    complete = run(encoder, level, pools=pools)
    assert not calls
    encoder.halves_batches = True
    halves = run(encoder, level, pools=pools)
    passes = (level != 0) + (level != 3)  # from word embeddings up to the level, and from the level to the top
    assert calls == [len(RAGGED)] * passes
    assert halves.keys() == complete.keys()
    torch.testing.assert_close(halves, complete, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_updates_are_the_same_in_every_mode(mode: str, folder: Path, calls: list[int]) -> None:
    options = (*f"adversary.mode={mode}".split(","), "optimizer.lookahead.steps=2", "train.clip_norm=0.1")
    complete = updated(folder, *options, f"train.fast_paths=[{ALL}]")
    assert not calls
    halves = updated(folder, *options, f"train.fast_paths=[{ALL},halves]")
    torch.testing.assert_close(halves, complete, rtol=1e-6, atol=1e-9)
    assert calls


def test_a_graph_that_is_kept_goes_backward_again_and_one_that_is_not_does_not() -> None:
    encoder, batch = trained(p=0.0), make_batch()
    state = encoder.upto(0, batch).detach().requires_grad_()
    output = encoder.resume(state, 0, batch).square().sum()
    first, again, last = (torch.autograd.grad(output, state, retain_graph=keeps)[0] for keeps in (True, True, False))
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    torch.testing.assert_close(last, first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(output, state)


def test_a_gradient_by_the_state_computes_none_of_the_weights() -> None:
    encoder, batch, seen = trained(p=0.0), make_batch(), list[str]()
    weight = encoder.blocks[0].get_submodule("intermediate.dense").weight
    assert isinstance(weight, Tensor)
    state = encoder.upto(0, batch).detach().requires_grad_()
    output = encoder.resume(state, 0, batch).square().sum()
    weight.register_hook(lambda _: seen.append("weight"))
    of_state = torch.autograd.grad(output, state, retain_graph=True)[0]
    assert not seen and of_state.any()
    of_weight = torch.autograd.grad(output, weight, retain_graph=True)[0]
    assert seen
    output.backward()
    torch.testing.assert_close(weight.grad, of_weight)
    torch.testing.assert_close(state.grad, of_state)


def test_frozen_weights_and_states_get_no_gradient() -> None:
    encoder, found = trained(p=0.0), []
    for parameter in (*encoder.model.embeddings.parameters(), *encoder.blocks[0].parameters()):
        parameter.requires_grad_(False)
    batch = make_batch()
    for encoder.halves_batches in (False, True):
        encoder.zero_grad()
        encoder(batch).square().sum().backward()
        found.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and not any(".layer.0." in name for name in found[0])
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=1e-10)


def test_without_gradients_the_output_is_the_same(calls: list[int]) -> None:
    encoder, batch, outputs = trained(), make_batch(), []
    for encoder.halves_batches in (False, True):
        with torch.no_grad(), Masks(3).last_part(batch, begins=True):
            outputs.append(encoder(batch))
    assert calls and not outputs[1].requires_grad
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-12, rtol=1e-10)


def test_calls_of_a_pass_that_follow_have_the_masks_that_they_had() -> None:
    encoder, batch, outputs = trained(), make_batch(), []
    for encoder.halves_batches in (False, True):
        with torch.no_grad(), Masks(3).last_part(batch, begins=True):
            outputs.append([encoder(batch) for _ in range(2)])
    assert not torch.allclose(*outputs[1])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("lengths", [RAGGED, EVEN, (1, 1), (500, 1, 1), (1, 1, 500), tuple(range(3, 90))])
def test_halves_are_all_of_the_batch_and_take_as_long_as_each_other(lengths: tuple[int, ...]) -> None:
    batch, width = make_batch(lengths), 8
    first, second = halves_of(batch, width)
    assert torch.cat([first.batch.lengths, second.batch.lengths]).tolist() == list(lengths)
    for name in ("input_ids", "token_type_ids", "position_ids"):
        assert torch.cat([getattr(half.batch, name) for half in (first, second)]).equal(getattr(batch, name))
        assert getattr(batch, name)[second.tokens].equal(getattr(second.batch, name))
    assert all(half.batch.longest == half.batch.lengths.max() and not half.batch.offsets[0] for half in (first, second))
    costs = [sum(length * (width + length / 2) for length in half.batch.lengths.tolist()) for half in (first, second)]
    assert abs(costs[0] - costs[1]) <= max(length * (width + length / 2) for length in lengths)


def test_only_where_the_result_is_the_same_there_are_halves(calls: list[int]) -> None:
    def runs(encoder: Encoder, lengths: tuple[int, ...] = RAGGED, *, masks: bool = True) -> bool:
        batch = make_batch(lengths)
        calls.clear()
        with Masks(3, enabled=masks).last_part(batch, begins=True):
            encoder(batch)
        return bool(calls)

    assert runs(trained()) and runs(trained(p=0.0), masks=False)
    assert not runs(trained(), masks=False)  # torch's generator draws them, in the order of the calls
    assert not runs(trained(p=1e-6)) and not runs(trained(), SINGLE) and not runs(trained().eval())
    assert not runs(trained(scalar_mix=True)) and not runs(trained(attention="padded"))
    for change in (recompute_activations, compile_blocks):
        encoder = trained()
        change(encoder)
        assert encoder.has_other_blocks
    recomputed = trained()
    recompute_activations(recomputed)
    assert not runs(recomputed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs(trained().float())
    torch.set_num_threads(1)
    assert not runs(trained())
