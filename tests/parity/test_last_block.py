"""A last block that computes first tokens only gives what the full block gives, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mt_dnn.encoders.dropout import Masks, number_dropouts
from mt_dnn.encoders.encoder import FIRST_TOKEN_POOLERS, Encoder
from mt_dnn.encoders.load import load_encoder
from mt_dnn.encoders.memory import recompute_activations
from mt_dnn.encoders.packed import PACKED_FAMILIES, PackedEncoder
from tests.parity.test_encoder import EVEN, RAGGED, SINGLE, config_of, fresh, make_batch

LENGTHS = [RAGGED, EVEN, SINGLE]


def pooled(
    encoder: Encoder, level: int, lengths: tuple[int, ...], *, shortened: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The pooled vectors from the state at a level, with all gradients of a weighted sum of them."""
    assert isinstance(encoder, PackedEncoder)
    encoder.shortens_last_block = shortened
    batch = make_batch(lengths)
    encoder.zero_grad()
    with Masks(0).last_part(batch, begins=True):
        state = encoder.upto(level, batch)
    state.retain_grad()
    with Masks(1).last_part(batch, begins=True):
        vectors = encoder.resume_pooled(state, level, batch)
    (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
    grads = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    assert state.grad is not None
    return vectors.detach(), {**grads, "state": state.grad}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_the_pooled_vectors_and_every_gradient_are_the_same(
    family: str, level: int, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fresh(family).double()
    rows: list[int] = []
    encoder.blocks[-1].get_submodule("output").register_forward_hook(lambda _, __, out: rows.append(out.shape[1]))
    full, full_grads = pooled(encoder, level, lengths, shortened=False)
    short, short_grads = pooled(encoder, level, lengths, shortened=True)
    if level < 3:
        assert rows[-2:] == [sum(lengths), len(lengths)]
    torch.testing.assert_close(short, full, atol=1e-12, rtol=1e-12)
    for name, gradient in full_grads.items():
        if name in short_grads:
            torch.testing.assert_close(short_grads[name], gradient, atol=1e-11, rtol=1e-10)
        else:
            assert not gradient.any()


@pytest.mark.parametrize("pooler", ["pretrained", "fresh", "cls", "mean", "max", "attention"])
@pytest.mark.parametrize("scalar_mix", [False, True])
def test_every_pooler_reads_what_it_reads_of_the_full_states(pooler: str, scalar_mix: bool) -> None:
    encoder, batch = fresh("bert", pooler=pooler, scalar_mix=scalar_mix).double(), make_batch()
    rows: list[int] = []
    encoder.blocks[-1].register_forward_hook(lambda _, __, out: rows.append(out.shape[1]))
    found = encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    shortened = pooler in FIRST_TOKEN_POOLERS and not scalar_mix
    assert rows == [batch.sequences if shortened else len(batch.input_ids)]
    torch.testing.assert_close(found, encoder.pool(encoder(batch), batch), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("family", ["deberta-v2", "distilbert", "modernbert", "mpnet"])
def test_families_that_run_padded_give_the_same_vectors(family: str) -> None:
    encoder, batch = fresh(family).double(), make_batch()
    found = encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    torch.testing.assert_close(found, encoder.pool(encoder(batch), batch), atol=1e-12, rtol=1e-12)


def test_dropout_is_as_in_the_full_block() -> None:
    """Without dropout in the last block, and with the same masks below it, nothing changes in training either."""
    torch.manual_seed(0)
    encoder = load_encoder(config=config_of("bert"), dropout=0.3, attention_dropout=0.3).double()
    number_dropouts(encoder)
    for part in encoder.blocks[-1].modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    (full, full_grads), (short, short_grads) = (pooled(encoder, 0, RAGGED, shortened=on) for on in (False, True))
    torch.testing.assert_close(short, full, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(short_grads["state"], full_grads["state"], atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("where", ["attention.self.dropout", "attention.output.dropout", "output.dropout"])
def test_each_dropout_of_the_last_block_drops(where: str) -> None:
    torch.manual_seed(0)
    encoder = load_encoder(config=config_of("bert"), dropout=0.0, attention_dropout=0.0)
    batch, found = make_batch(), []
    drop: Any = encoder.blocks[-1].get_submodule(where)
    for p, seed in ((0.0, 0), (0.5, 0), (0.5, 0), (0.5, 1)):
        drop.p = p
        with Masks(seed).last_part(batch, begins=True):
            found.append(encoder.resume_pooled(encoder.upto(0, batch), 0, batch))
    assert found[1].equal(found[2]) and not found[0].equal(found[1]) and not found[1].equal(found[3])


def test_recomputed_blocks_are_shortened_too() -> None:
    encoder = fresh("bert").double()
    full, full_grads = pooled(encoder, 0, RAGGED, shortened=False)
    recompute_activations(encoder)
    short, short_grads = pooled(encoder, 0, RAGGED, shortened=True)
    torch.testing.assert_close(short, full, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(short_grads["state"], full_grads["state"], atol=1e-11, rtol=1e-10)
