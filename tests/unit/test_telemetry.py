"""Telemetry: means by weight, totals, sums of stretches, and a state that JSON carries exactly."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mt_dnn.telemetry import Telemetry

VALUES = st.floats(-100, 100, width=32)
WEIGHTS = st.integers(1, 50)


def filled(*figures: tuple[float, float], count: float = 0.0) -> Telemetry:
    telemetry = Telemetry()
    for value, weight in figures:
        telemetry.mean("figure", torch.tensor(value), weight)
    telemetry.count("cases", torch.tensor(count))
    return telemetry


def test_a_mean_counts_by_weight_and_a_total_does_not() -> None:
    telemetry = filled((1.0, 3), (5.0, 1))
    telemetry.mean("plain", 2.0)
    telemetry.mean("plain", 4.0)
    telemetry.count("cases", 3)
    telemetry.count("cases", torch.tensor(4))
    assert telemetry.values() == {"figure": 2.0, "plain": 3.0, "cases": 7.0}
    assert Telemetry().values() == {}


@given(st.lists(st.tuples(VALUES, WEIGHTS), min_size=1), st.lists(st.tuples(VALUES, WEIGHTS), min_size=1))
def test_adding_stretches_is_one_long_stretch(one: list[tuple[float, int]], other: list[tuple[float, int]]) -> None:
    first, second = filled(*one, count=2), filled(*other, count=5)
    before = second.values()
    first.add(second)
    assert first.values() == pytest.approx(filled(*one, *other, count=7).values(), rel=1e-4, abs=1e-3)
    assert second.values() == before


def test_adding_keeps_what_only_one_of_them_has() -> None:
    telemetry, other = Telemetry(), Telemetry()
    telemetry.mean("mine", 1.0, 2)
    other.mean("theirs", 3.0, 2)
    other.count("cases", 4)
    telemetry.add(other)
    assert telemetry.values() == {"mine": 1.0, "theirs": 3.0, "cases": 4.0}


@given(st.lists(st.tuples(VALUES, WEIGHTS), min_size=1, max_size=8), st.lists(st.tuples(VALUES, WEIGHTS), max_size=8))
def test_state_through_json_continues_exactly(head: list[tuple[float, int]], tail: list[tuple[float, int]]) -> None:
    whole, part = filled(*head, *tail, count=3), filled(*head, count=3)
    resumed = Telemetry(json.loads(json.dumps(part.state_dict())))
    for value, weight in tail:
        resumed.mean("figure", torch.tensor(value), weight)
    assert resumed.values() == whole.values()


def test_a_state_taken_is_not_changed_by_a_stretch_made_of_it() -> None:
    state = filled((1.0, 2)).state_dict()
    Telemetry(state).mean("figure", 9.0, 2)
    assert Telemetry(state).values()["figure"] == 1.0


def test_nothing_is_read_from_the_device_before_it_is_asked_for() -> None:
    telemetry = Telemetry()
    telemetry.mean("figure", torch.tensor(1.0), 2)
    telemetry.mean("figure", torch.tensor(2.0), 2)
    assert isinstance(telemetry.sums["figure"], torch.Tensor)
