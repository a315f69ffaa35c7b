"""Perturbations: norms, projections and the guard against loops over examples; copies of a batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.perturbation import (
    finite,
    gaussian,
    guarded,
    into_ball,
    norms,
    per_sentence,
    report_gradient_share,
    report_size,
    uniform,
    unit,
)
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import collate
from mt_dnn.telemetry import Telemetry
from tests.unit.batches.test_batch import split_of

SCOPES = [(scope, order) for scope in ("token", "sentence") for order in ("2", "inf")]


class Case(NamedTuple):
    """A ragged batch and values (T, H) for its tokens."""

    batch: Batch
    values: Tensor
    seed: int

    def more(self, shift: int = 1) -> Tensor:
        """Other values of the same shape and size."""
        generator = torch.Generator().manual_seed(self.seed + shift)
        return torch.randn(self.values.shape, generator=generator) * self.values.abs().mean()

    def slices(self) -> list[slice]:
        bounds = self.batch.offsets.tolist()
        return [slice(*pair) for pair in pairwise(bounds)]

    def view(self) -> View:
        return View(cast(Any, None), self.batch, cast(Any, None), Telemetry())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    hidden, seed = draw(st.integers(1, 5)), draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(lengths), hidden, generator=generator) * 10.0 ** draw(st.integers(-4, 4))
    return Case(collate(split_of(lengths), range(len(lengths)), task="any"), values, seed)


def norm_by_loop(case: Case, scope: str, order: str) -> np.ndarray:
    """(T, 1), one number after the other."""
    values, result = case.values.double().numpy(), np.empty((len(case.values), 1))
    for here in case.slices():
        parts = [slice(token, token + 1) for token in range(here.start, here.stop)] if scope == "token" else [here]
        for part in parts:
            entries = np.abs(values[part]).ravel()
            result[part] = entries.max() if order == "inf" else np.sqrt((entries**2).sum())
    return result


@pytest.mark.parametrize(("scope", "order"), SCOPES)
@given(cases())
def test_norms_are_those_of_a_loop(scope: Any, order: Any, case: Case) -> None:
    ours = norms(case.values, case.batch, scope=scope, order=order)
    assert ours.shape == (len(case.values), 1) and ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), norm_by_loop(case, scope, order), rtol=1e-5)
    if scope == "sentence":
        firsts = case.batch.offsets[:-1]
        assert torch.equal(per_sentence(case.values, case.batch, order), ours[firsts, 0])


@pytest.mark.parametrize(("scope", "order"), SCOPES)
@given(cases(), st.integers(0, 5))
def test_unit_has_norm_one_and_zeros_stay_zeros(scope: Any, order: Any, case: Case, zeroed: int) -> None:
    here = case.slices()[zeroed % case.batch.size]
    case.values[here] = 0
    scaled = case._replace(values=unit(case.values, case.batch, scope=scope, order=order))
    expected = np.ones((len(case.values), 1))
    expected[here] = 0
    np.testing.assert_allclose(norm_by_loop(scaled, scope, order), expected, rtol=1e-5)
    assert not scaled.values[here].any()


@given(cases(), st.floats(0.1, 3.0))
def test_into_ball_bounds_what_is_outside_and_leaves_what_is_inside(case: Case, factor: float) -> None:
    before = norm_by_loop(case, "sentence", "2")
    radius = factor * float(np.median(before))
    moved = into_ball(case.values, case.batch, radius)
    assert norm_by_loop(case._replace(values=moved), "sentence", "2").max() <= radius * (1 + 1e-5)
    for here in case.slices():
        if before[here.start, 0] < radius * (1 - 1e-5):
            assert torch.equal(moved[here], case.values[here])
        else:
            expected = case.values[here] * (radius / before[here.start, 0])
            torch.testing.assert_close(moved[here], expected, rtol=1e-4, atol=0)


def test_a_ball_of_radius_zero_holds_zero_alone() -> None:
    batch = collate(split_of([2, 3]), [0, 1], task="any")
    assert not into_ball(torch.randn(5, 4), batch, 0.0).any()
    assert not into_ball(torch.zeros(5, 4), batch, 1.0).any()


@given(cases(), st.floats(0.01, 2.0))
def test_the_first_perturbation_lies_in_its_ball_and_fills_its_box(case: Case, magnitude: float) -> None:
    wide = BallOptions(mode="any", init_magnitude=magnitude, radius=1e9)
    noise, raw = first_delta(case.values, case.view(), wide), uniform(case.view(), case.values)
    assert (per_sentence(noise, case.batch) <= magnitude * (1 + 1e-6)).all()
    for here in case.slices():
        bound = magnitude / np.sqrt((here.stop - here.start) * case.values.shape[1])
        torch.testing.assert_close(noise[here], raw[here] * bound)
    narrow = wide.model_copy(update={"radius": magnitude / 3})
    assert torch.equal(first_delta(case.values, case.view(), narrow), into_ball(noise, case.batch, magnitude / 3))


def test_noise_is_float32_of_the_stated_size() -> None:
    state = torch.zeros(400, 50, dtype=torch.bfloat16)
    batch = collate(split_of([150, 250]), [0, 1], task="any")
    view = View(cast(Any, None), batch, cast(Any, None), Telemetry())
    normal, even = gaussian(view, state, 0.3), uniform(view, state, 0.5)
    assert {normal.dtype, even.dtype, first_delta(state, view, BALL).dtype} == {torch.float32}
    assert normal.std().item() == pytest.approx(0.3, rel=0.02) and abs(normal.mean().item()) < 0.01
    assert 0.499 < even.abs().max().item() <= 0.5 and even.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.02)
    assert not torch.equal(gaussian(view, state), gaussian(view, state))  # each draw is another one


@pytest.mark.parametrize("damage", [float("inf"), -float("inf"), float("nan")])
@given(cases(), st.data())
def test_examples_without_a_finite_gradient_keep_their_start(damage: float, case: Case, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, case.batch.size - 1)))
    gradient, start, delta, view = case.values.clone(), case.more(1), case.more(2), case.view()
    for example in bad:
        here = case.slices()[example]
        token, entry = data.draw(st.integers(here.start, here.stop - 1)), data.draw(st.integers(0, 99))
        gradient[token, entry % gradient.shape[1]] = damage
    assert finite(gradient, case.batch).tolist() == [i not in bad for i in range(case.batch.size)]
    kept = guarded(delta, start, gradient, view)
    for i, here in enumerate(case.slices()):
        assert torch.equal(kept[here], start[here] if i in bad else delta[here])
    assert view.telemetry.values()["nonfinite"] == len(bad)


BALL = BallOptions(mode="any", step_size=0.3, radius=0.5)


@pytest.mark.parametrize("damage", [float("inf"), float("nan")])
@given(cases(), st.integers(0, 5))
def test_a_damaged_gradient_stops_its_own_example_only(damage: float, case: Case, example: int) -> None:
    here = case.slices()[example % case.batch.size]
    start = into_ball(case.more(1), case.batch, 0.4)
    undisturbed = ascend(start, case.values, start, case.view(), BALL)
    gradient = case.values.clone()
    gradient[here.start, 0] = damage
    moved = ascend(start, gradient, start, case.view(), BALL)
    same = torch.ones(len(start), dtype=torch.bool)
    same[here] = False
    assert torch.equal(moved[same], undisturbed[same]) and torch.equal(moved[here], start[here])
    assert not torch.equal(undisturbed[here], start[here])


@given(cases())
def test_a_step_has_its_length_and_forgets_the_size_of_the_gradient(case: Case) -> None:
    options = BallOptions(mode="any", step_size=0.3, radius=1e9)
    start = case.more() / case.values.abs().mean()
    moved = ascend(start, case.values, start, case.view(), options)
    np.testing.assert_allclose(per_sentence(moved - start, case.batch).numpy(), 0.3, rtol=1e-3)
    assert torch.equal(moved, ascend(start, case.values * 1024, start, case.view(), options))
    narrow = ascend(start, case.values, start, case.view(), BALL)
    assert (per_sentence(narrow, case.batch) <= 0.5 * (1 + 1e-5)).all()
    assert (per_sentence(first_delta(start, case.view(), BALL), case.batch) <= 0.1).all()


@given(cases())
def test_examples_do_not_see_one_another(case: Case) -> None:
    here, others = case.slices()[0], slice(int(case.batch.offsets[1]), None)
    changed = case.values.clone()
    changed[here] *= 100
    for scope, order in SCOPES:
        for function in (norms, unit):
            one, other = (
                function(v, case.batch, scope=cast(Any, scope), order=cast(Any, order)) for v in (case.values, changed)
            )
            assert torch.equal(one[others], other[others])
    assert torch.equal(into_ball(case.values, case.batch, 1.0)[others], into_ball(changed, case.batch, 1.0)[others])


def virtual(**options: Any) -> Any:
    vat = ADVERSARIES["vat"]
    return vat(vat.options_type.model_validate({"mode": "vat", **options}), cast(Any, None))


@given(cases(), st.floats(0.1, 2.0))
def test_clip_bounds_every_entry(case: Case, factor: float) -> None:
    radius = factor * case.values.abs().median().item()
    clipped = virtual(radius=radius)._projected(case.values, case.view())
    expected = np.clip(case.values.numpy(), -np.float32(radius), np.float32(radius))
    np.testing.assert_array_equal(clipped.numpy(), expected)


@given(cases(), st.floats(0.1, 2.0))
def test_normalize_makes_the_largest_entry_of_a_token_the_radius(case: Case, radius: float) -> None:
    projected = virtual(radius=radius, projection="normalize")._projected(case.values, case.view())
    values = case.values.double().numpy()
    expected = radius * values / (np.abs(values).max(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(("scope", "order"), SCOPES)
@given(cases())
def test_gradients_are_normalized_as_asked(scope: str, order: str, case: Case) -> None:
    adversary = virtual(normalize_gradient=scope, gradient_norm=order)
    scaled = adversary._normalized(case.values, case.view())
    expected = case.values.double().numpy() / norm_by_loop(case, scope, order)
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-4)
    assert virtual()._normalized(case.values, case.view()) is case.values


def test_reported_size_and_share_are_means_over_examples() -> None:
    batch = collate(split_of([1, 3]), [0, 1], task="any")
    view = View(cast(Any, None), batch, cast(Any, None), Telemetry())
    state, delta = torch.full((4, 1), 2.0), torch.tensor([[1.0], [3.0], [0.0], [0.0]])
    report_size(view, delta, state)  # 1/2 and 3/√12
    report_gradient_share(view, delta, torch.tensor([1.0, 0.0]))  # 1/(1 + 1) and 0/(3 + 0)
    expected = {"delta_ratio": (0.5 + 3 / 12**0.5) / 2, "gradient_share": 0.25}
    assert view.telemetry.values() == pytest.approx(expected)
    report_size(view, torch.zeros(4, 1), torch.zeros(4, 1))  # 0/0 counts as 0
    assert view.telemetry.values()["delta_ratio"] == pytest.approx(expected["delta_ratio"] / 2)


FIELDS = ("input_ids", "token_type_ids", "position_ids", "offsets", "labels", "lengths", "sequence_ids", "padded_index")


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 4), st.booleans())
def test_copies_of_a_batch_are_its_rows_collated_again(lengths: list[int], copies: int, labelled: bool) -> None:
    split = split_of(lengths, np.arange(len(lengths)) if labelled else None)
    rows = list(range(len(lengths)))
    batch = collate(split, rows, task="any")
    assert batch.mask.shape[0] == len(lengths)  # cached before
    repeated, expected = batch.repeated(copies), collate(split, rows * copies, task="any")
    for name in (*FIELDS, "mask"):
        own, other = getattr(repeated, name), getattr(expected, name)
        assert (own is None and other is None) or (torch.equal(own, other) and own.dtype == other.dtype), name
    for name in ("task", "longest", "size", "is_even"):
        assert getattr(repeated, name) == getattr(expected, name)
    assert batch.repeated(1) is batch
