"""Dropout with kept masks: the masks of torch, in every encoder family, with nothing of it in saved encoders."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from mt_dnn.encoders import load
from mt_dnn.encoders.dropout import Dropout, KeptMasks, replace_dropouts
from mt_dnn.encoders.encoder import Encoder
from tests.parity.test_encoder import PACKED, PADDED, config_of, make_batch

EVERY_FAMILY = [(family, "auto") for family in PACKED + PADDED] + [(family, "padded") for family in PACKED]


def test_masks_are_kept_through_other_draws_and_shorter_passes() -> None:
    first, second, inplace = Dropout(0.5), Dropout(0.5), Dropout(0.5, inplace=True)
    masks, ones = KeptMasks(nn.ModuleList([first, second, inplace])), torch.ones(4, 50)

    def drawn() -> Tensor:
        torch.manual_seed(1)
        return torch.cat([first(ones).flatten(), torch.rand(3), second(ones).flatten()])

    torch.manual_seed(1)
    expected = torch.cat([F.dropout(ones, 0.5).flatten(), torch.rand(3), nn.Dropout(0.5)(ones).flatten()])
    assert drawn().equal(expected)
    for _ in range(3):
        with masks:
            assert drawn().equal(expected)
        with masks:  # a shorter pass, and any module gets the first mask
            assert second(ones).flatten().equal(expected[:200])
    with masks:
        changed = ones.clone()
        assert inplace(changed) is changed and changed.flatten().equal(expected[:200])
    with pytest.raises(AssertionError), masks:
        first(torch.ones(2))


def test_masks_are_used_in_training_and_inside_the_context_only() -> None:
    dropout, ones = Dropout(0.5), torch.ones(4, 50)
    masks, never = KeptMasks(dropout), Dropout(0.0)
    with masks:
        kept = dropout(ones)
    with masks:
        assert dropout.eval()(ones) is ones and dropout.train()(ones).equal(kept)
    assert not dropout(ones).equal(kept) and dropout.masks is None
    with pytest.raises(ValueError, match="stop"), masks:
        raise ValueError("stop")
    assert dropout.masks is None
    with KeptMasks(never):
        assert never(ones) is ones


def loaded(family: str, attention: str) -> Encoder:
    """An encoder with random weights and much dropout, in training mode."""
    torch.manual_seed(0)
    encoder = load.load_encoder(config=config_of(family), attention=attention, dropout=0.3, attention_dropout=0.3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def passes(encoder: Encoder, *, kept: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Output, gradient at the words and state of the generator of three passes with the same masks."""
    masks, batch, found = KeptMasks(encoder), make_batch(), []
    for _ in range(3):
        torch.manual_seed(3)
        words = encoder.upto(0, batch).detach().requires_grad_()
        if kept:
            with masks:
                output = encoder.resume(words, 0, batch)
        else:
            output = encoder.resume(words, 0, batch)
        (gradient,) = torch.autograd.grad(output.square().mean(), words)
        found.append((output, gradient, torch.get_rng_state()))
    return found


@pytest.mark.parametrize(("family", "attention"), EVERY_FAMILY)
def test_kept_masks_are_those_of_transformers_own_dropout(
    family: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit: output, gradient and generator, in the first pass and in later ones."""
    with_kept = passes(loaded(family, attention), kept=True)
    monkeypatch.setattr(load, "replace_dropouts", lambda model: None)
    plain = loaded(family, attention)
    assert not any(isinstance(part, Dropout) for part in plain.modules())
    expected = passes(plain, kept=False)[0]
    for found in with_kept:
        assert all(one.equal(other) for one, other in zip(found, expected, strict=True))
    assert not expected[0].equal(plain.eval()(make_batch()))


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert"])
def test_calls_of_functional_dropout_draw_the_same_masks_again(family: str) -> None:
    """Attention written out in transformers drops its weights with ``F.dropout``."""
    found = []
    for kept in (True, False):
        encoder = loaded(family, "padded")
        encoder.model.set_attn_implementation("eager")
        found += passes(encoder, kept=kept)
    for later in found[1:]:
        assert all(one.equal(other) for one, other in zip(later, found[0], strict=True))


@pytest.mark.parametrize(("family", "attention"), EVERY_FAMILY)
def test_an_encoder_holds_no_other_dropout(family: str, attention: str) -> None:
    encoder = loaded(family, attention)
    kinds = {type(part) for part in encoder.model.modules() if isinstance(part, nn.Dropout)}
    assert kinds == {Dropout} and all(part.training for part in encoder.modules())


def test_a_later_pass_of_a_packed_encoder_draws_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, batch, draws = loaded("bert", "auto"), make_batch(), []
    draw = Tensor.bernoulli_

    def counted(mask: Tensor, p: float) -> Tensor:
        draws.append(p)
        return draw(mask, p)

    monkeypatch.setattr(Tensor, "bernoulli_", counted)
    masks, counts = KeptMasks(encoder), []
    for _ in range(2):
        with masks:
            encoder(batch)
        counts.append(len(draws))
    assert counts == [1 + 3 * (2 + batch.size)] * 2  # embeddings; per block two layers and the weights of attention


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


def test_a_copy_of_an_encoder_draws_masks_of_its_own() -> None:
    """As the averaged model of SMART, which is a copy."""
    encoder, batch = loaded("bert", "auto"), make_batch()
    copied, masks = copy.deepcopy(encoder), KeptMasks(encoder)
    with masks:
        kept = encoder(batch)
    with masks:
        assert not copied(batch).equal(kept) and encoder(batch).equal(kept)
        assert all(part.masks is None for part in copied.modules() if isinstance(part, Dropout))


def test_dropouts_of_other_kinds_stay() -> None:
    inner = nn.Sequential(nn.Dropout(0.4))
    module = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.AlphaDropout(0.2), inner)
    replace_dropouts(module)
    assert [type(part) for part in (*module, *inner)] == [Dropout, nn.AlphaDropout, nn.Sequential, Dropout]
    assert [(part.p, part.inplace) for part in (module[0], inner[0])] == [(0.2, True), (0.4, False)]
