"""Masks of dropout: their share and independence, what they depend on, and nothing of them in saved encoders."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel

from mt_dnn.batches.batch import Batch, Share
from mt_dnn.encoders import load
from mt_dnn.encoders.dropout import (
    Dropout,
    Masks,
    Pass,
    apart_in_turn,
    in_this_pass,
    number_dropouts,
    replace_dropouts,
)
from mt_dnn.encoders.encoder import Encoder
from tests.parity.test_encoder import PACKED, PADDED, config_of, make_batch

EVERY_FAMILY = [(family, "auto") for family in PACKED + PADDED] + [(family, "padded") for family in PACKED]


def mask(
    batch: Batch, shape: tuple[int, ...], *, p: float = 0.5, number: int = 0, seed: int = 0, passes: int = 0
) -> Tensor:
    """What a dropout makes of ones."""
    dropout, masks = Dropout(p), Masks(seed)
    dropout.number, masks.position = number, (passes, False)
    with masks.last_part(batch, begins=True):
        return dropout(torch.ones(shape))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.123, 1e-4, 0.9])
def test_mean_and_variance_are_those_of_dropout(p: float) -> None:
    batch = make_batch((1000, 1000))
    found = mask(batch, (2000, 5000), p=p).double()  # 10⁷ draws
    kept = 1 - round(p * 2**16) / 2**16  # chances are multiples of 2⁻¹⁶
    values = found.unique()
    assert len(values) == 2 and values[0] == 0 and values[1].item() == pytest.approx(1 / kept, rel=1e-6)
    error = ((1 - kept) / kept / found.numel()) ** 0.5  # standard error of the mean
    assert abs(found.mean().item() - 1) < 5 * error
    assert found.var().item() == pytest.approx((1 - kept) / kept, rel=2e-2 if p > 1e-3 else 0.2)
    rows = found - found.mean()
    for shift in (1, 2, 4, 5000):  # neighbours are independent
        flat = rows.flatten()
        correlation = (flat[:-shift] * flat[shift:]).mean() / rows.square().mean()
        assert abs(correlation.item()) < 5 / found.numel() ** 0.5


def test_a_mask_is_a_function_of_seed_pass_number_and_example() -> None:
    batch, shape = make_batch((6, 6)), (12, 50)
    first = mask(batch, shape)
    assert first.equal(mask(batch, shape))
    others = [mask(batch, shape, seed=1), mask(batch, shape, passes=1), mask(batch, shape, number=1), first.flip(0)]
    others.append(torch.cat([first[6:], first[:6]]))  # the two examples have masks of their own
    masks = Masks(0)
    dropout = Dropout(0.5)
    with masks.last_part(batch, begins=True):
        again, second_call = dropout(torch.ones(shape)), dropout(torch.ones(shape))
        others += [second_call, dropout(torch.ones(1, 25, 6, 2), [0]).view(6, 50).repeat(2, 1)]
    assert again.equal(first)
    for other in others:
        agreement = (first == other).double().mean().item()
        assert abs(agreement - 0.5) < 5 * 0.5 / 600**0.5 or agreement == pytest.approx(0.75, abs=0.1)


LENGTHS = (7, 3, 12, 5)
DIVISIONS = [(2, 0), (3, 1), (1,), (0, 1, 2, 3)]


def share(positions: tuple[int, ...]) -> Batch:
    """A rank's part of a batch of four sequences."""
    part = make_batch(tuple(LENGTHS[i] for i in positions))
    return replace(part, share=Share(seed=0, positions=positions, global_size=4))


@pytest.mark.parametrize("positions", DIVISIONS)
def test_ranks_draw_the_masks_of_their_examples(positions: tuple[int, ...]) -> None:
    """States (1, T, H) and (T, H), states of first tokens (1, S, H), and pooled vectors (S, H)."""
    every, part, tokens = make_batch(LENGTHS), share(positions), sum(LENGTHS[i] for i in positions)
    states = mask(every, (27, 8)).split(LENGTHS)
    for shape in ((1, tokens, 8), (tokens, 8)):
        assert mask(part, shape).reshape(tokens, 8).equal(torch.cat([states[i] for i in positions]))
    pooled = mask(every, (4, 8))[list(positions)]
    assert mask(part, (len(positions), 8)).equal(pooled) and mask(part, (1, len(positions), 8))[0].equal(pooled)


@pytest.mark.parametrize("queries", [1, None])
@pytest.mark.parametrize("positions", DIVISIONS)
def test_ranks_draw_the_masks_of_their_weights_of_attention(positions: tuple[int, ...], queries: int | None) -> None:
    """(S, heads, queries, L). L is the longest sequence of the rank."""
    part, longest = share(positions), max(LENGTHS[i] for i in positions)
    every = mask(make_batch(LENGTHS), (4, 2, queries or 12, 12))
    found = mask(part, (len(positions), 2, queries or longest, longest))
    for row, position in enumerate(positions):
        length = LENGTHS[position]
        rows = queries or length
        assert found[row, :, :rows, :length].equal(every[position, :, :rows, :length])


@pytest.mark.parametrize("positions", DIVISIONS)
def test_ranks_draw_the_chances_of_their_examples(positions: tuple[int, ...]) -> None:
    found = []
    for batch in (make_batch(LENGTHS), share(positions)):
        with Masks(0).last_part(batch, begins=True):
            found.append(Dropout(0.1).uniform((batch.sequences, 1000), torch.device("cpu")))
    assert found[1].equal(found[0][list(positions)])
    assert found[0].min() >= 0 and found[0].max() < 1 and abs(found[0].mean().item() - 0.5) < 5 * (1 / 12 / 4000) ** 0.5


def test_compiled_code_draws_from_torch_without_leaving_the_graph() -> None:
    dropout, batch = Dropout(0.5), make_batch((6, 6))
    with Masks(0).last_part(batch, begins=True):
        assert torch._dynamo.explain(dropout)(torch.ones(12, 50)).graph_break_count == 0


def test_copies_of_a_batch_and_choices_of_an_example_have_masks_of_their_own() -> None:
    batch = make_batch((6, 6))
    found = mask(batch.repeated(2), (24, 50))
    assert found[:12].equal(mask(batch, (12, 50))) and not found[:12].equal(found[12:])
    choices = replace(batch, groups=torch.tensor([0, 2]), most_choices=2, share=Share.undivided(1))
    found = mask(choices.repeated(2), (24, 50))
    assert len({tuple(part.flatten().tolist()) for part in found.split(6)}) == 4


def test_masks_are_used_in_training_in_a_pass_on_a_cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, ones = make_batch(), torch.ones(27, 50)
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, state: "torch")
    dropout = Dropout(0.5)
    with Masks(0).last_part(batch, begins=True):
        assert dropout(ones) != "torch"
        assert dropout.eval()(ones) == "torch" and Dropout(0.0)(ones) == "torch" and Dropout(1.0)(ones) == "torch"
        assert dropout.train()(ones.to("meta")) == "torch"
    assert dropout(ones) == "torch"


@pytest.mark.parametrize("threads", [1, 2])
def test_masks_from_another_thread_are_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, drop, drawn_in = make_batch(LENGTHS), Dropout(0.3), set[str]()
    asked = [((1, 2, 12, 12), [2]), ((2, 2, 7, 7), [0, 3]), ((1, 2, 3, 3), [1])]
    bits = Pass.bits

    def noted(self: Pass, *arguments: Any) -> Any:
        drawn_in.add(current_thread().name)
        return bits(self, *arguments)

    monkeypatch.setattr("mt_dnn.encoders.dropout.APART", sum(prod(shape) for shape, _ in asked[1:]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with Masks(7).last_part(batch, begins=True):
        expected = [drop.kept(shape, torch.float64, sequences) for shape, sequences in asked]
        monkeypatch.setattr(Pass, "bits", noted)
        found = list(drop.kept_in_turn(asked, torch.float64))
    assert drawn_in == {"masks" if threads > 1 else current_thread().name}
    assert [mask.dtype for mask in found] == [torch.float64] * 3
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_an_error_of_the_other_thread_reaches_the_caller() -> None:
    results = apart_in_turn(lambda number: 6 // number, [3, 0, 2])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_inplace_and_gradient() -> None:
    batch = make_batch((6, 6))
    changed = torch.ones(12, 50)
    dropout = Dropout(0.5, inplace=True)
    with Masks(0).last_part(batch, begins=True):
        assert dropout(changed) is changed and changed.equal(mask(batch, (12, 50)))
    state = torch.randn(12, 50, requires_grad=True)
    with Masks(0).last_part(batch, begins=True):
        Dropout(0.5)(state).sum().backward()
    assert state.grad is not None and state.grad.equal(changed)


def test_a_part_that_runs_again_after_its_pass_has_the_same_masks() -> None:
    batch, dropout, state = make_batch((6, 6)), Dropout(0.5), torch.randn(12, 50, requires_grad=True)
    masks = Masks(0)
    with masks.last_part(batch, begins=True):
        found = checkpoint(in_this_pass(dropout), state, use_reentrant=False)
    with masks.last_part(batch, begins=True):
        dropout(state)  # a later pass
    found.sum().backward()
    assert state.grad is not None and state.grad.equal(mask(batch, (12, 50)))


def loaded(family: str, attention: str) -> Encoder:
    """An encoder with random weights and much dropout, in training mode."""
    torch.manual_seed(0)
    encoder = load.load_encoder(config=config_of(family), attention=attention, dropout=0.3, attention_dropout=0.3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    number_dropouts(encoder)
    return encoder


@pytest.mark.parametrize(("family", "attention"), EVERY_FAMILY)
def test_passes_with_the_same_number_are_the_same(family: str, attention: str) -> None:
    """Output and gradient at the words, bit by bit; a pass with another number differs."""
    encoder, batch, masks, found = loaded(family, attention), make_batch(), Masks(5), []
    for number in (0, 0, 1):
        torch.manual_seed(3)  # some families drop weights of attention inside of torch
        masks.position = (number, False)
        words = encoder.upto(0, batch).detach().requires_grad_()
        with masks.last_part(batch, begins=True):
            output = encoder.resume(words, 0, batch)
        (gradient,) = torch.autograd.grad(output.square().mean(), words)
        found.append((output, gradient))
    assert all(one.equal(other) for one, other in zip(found[0], found[1], strict=True))
    assert not found[0][0].equal(found[2][0])


@pytest.mark.parametrize(("family", "attention"), EVERY_FAMILY)
def test_an_encoder_holds_no_other_dropout(family: str, attention: str) -> None:
    encoder = loaded(family, attention)
    parts = [part for part in encoder.model.modules() if isinstance(part, nn.Dropout)]
    assert {type(part) for part in parts} == {Dropout} and all(part.training for part in encoder.modules())
    assert sorted(part.number for part in parts if isinstance(part, Dropout)) == list(range(len(parts)))


def test_saved_encoders_know_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = {}
    for name in ("with", "without"):
        encoder = loaded("bert", "auto")
        encoder.save(tmp_path / name)
        saved[name] = load_file(tmp_path / name / "model.safetensors"), (tmp_path / name / "config.json").read_text()
        monkeypatch.setattr(load, "replace_dropouts", lambda model: None)
    assert saved["with"][0].keys() == saved["without"][0].keys() and saved["with"][1] == saved["without"][1]
    again = AutoModel.from_pretrained(tmp_path / "with")
    assert Dropout not in {type(part) for part in again.modules()}


def test_a_copy_of_an_encoder_draws_the_same_masks() -> None:
    encoder, batch = loaded("bert", "auto"), make_batch()
    copied, found = copy.deepcopy(encoder), []
    for one in (encoder, copied):
        with Masks(0).last_part(batch, begins=True):
            found.append(one(batch))
    assert found[0].equal(found[1])


def test_dropouts_of_other_kinds_stay() -> None:
    inner = nn.Sequential(nn.Dropout(0.4))
    module = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.AlphaDropout(0.2), inner)
    replace_dropouts(module)
    assert [type(part) for part in (*module, *inner)] == [Dropout, nn.AlphaDropout, nn.Sequential, Dropout]
    assert [(part.p, part.inplace) for part in (module[0], inner[0])] == [(0.2, True), (0.4, False)]


def test_a_pass_in_two_parts_has_the_masks_of_a_pass_in_one() -> None:
    encoder, batch, found = loaded("bert", "auto"), make_batch(), []
    for level in (0, 1, 3):
        masks = Masks(0)
        for _ in range(2):
            with masks.first_part(batch) if level else nullcontext():
                state = encoder.upto(level, batch)
            with masks.last_part(batch, begins=level == 0):
                found.append(encoder.resume(state, level, batch))
        with masks.last_part(batch, begins=level == 0):  # no first part before it
            found.append(encoder.resume(state, level, batch))
    assert found[0].equal(found[3]) and found[0].equal(found[6]) and found[1].equal(found[4])
    assert not found[0].equal(found[1]) and not found[4].equal(found[5])
