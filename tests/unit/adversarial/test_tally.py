"""The tally of wrong answers: counting, smoothing, sampling, oracle files, exact state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Tensor

from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.tally import Tally, read_counts

LABELS = ("no", "maybe", "yes")
COUNTS = [[5.0, 0.0, 2.0], [1.0, 9.0, 0.0], [4.0, 3.0, 7.0]]


def task_of(name: str = "nli", *, value_range: tuple[float, float] | None = None, **fields: Any) -> TaskDef:
    kind = "classification" if value_range is None else "regression"
    labels = LABELS if value_range is None else ()
    own = {"name": name, "task_type": kind, "data_format": "pair", "labels": labels, "value_range": value_range}
    return TaskDef.model_validate({**TASK_TYPES[kind].defaults, **own, **fields})


NLI, STSB, UNIT = task_of(), task_of("stsb", value_range=(0, 5)), task_of("shifted", value_range=(-1.0, 1.0))


def sampled(tally: Tally, labels: Tensor) -> Tensor:
    return tally.sample(labels, torch.rand(labels.shape), torch.rand(labels.shape), torch.zeros(()))


def one_hot_logits(*predicted: int) -> Tensor:
    return 9.0 * torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()


def test_errors_are_equally_likely_at_first() -> None:
    expected = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]], dtype=torch.float64)
    assert torch.equal(Tally(NLI).probabilities, expected)
    bins = Tally(STSB).probabilities
    assert torch.allclose(bins, (1 - torch.eye(10, dtype=torch.float64)) / 9, rtol=0, atol=1e-15)


def test_counts_are_smoothed_by_one_without_the_diagonal() -> None:
    expected = [[0, 1 / 4, 3 / 4], [2 / 3, 0, 1 / 3], [5 / 9, 4 / 9, 0]]  # (n + 1)/Σ(n + 1), by hand
    assert torch.allclose(Tally(NLI, COUNTS).probabilities, torch.tensor(expected, dtype=torch.float64))


def test_hard_counts_take_effect_when_the_epoch_ends() -> None:
    tally = Tally(NLI)
    tally.count(torch.tensor([0, 0, 2, 0]), one_hot_logits(2, 2, 1, 0))
    tally.count(torch.tensor([0]), one_hot_logits(2))
    assert torch.equal(tally.probabilities, Tally(NLI).probabilities)
    tally.end_epoch()
    assert tally.record()["counts"] == [[1, 0, 3], [0, 0, 0], [0, 1, 0]]
    assert tally.probabilities[0].tolist() == [0, 1 / 5, 4 / 5]
    assert not tally.current.any()  # the next epoch starts from nothing
    tally.count(torch.tensor([1]), one_hot_logits(0))
    tally.end_epoch()
    assert tally.record()["counts"] == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_soft_counts_add_probabilities() -> None:
    tally, logits = Tally(NLI), torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 0.1]])
    tally.count(torch.tensor([1, 1]), logits, soft=True)
    tally.end_epoch()
    counts = torch.tensor(tally.record()["counts"])
    torch.testing.assert_close(counts[1], logits.softmax(1).sum(0))
    assert not counts[[0, 2]].any()


def test_an_epoch_without_counts_changes_nothing() -> None:
    tally = Tally(NLI, COUNTS)
    tally.end_epoch()
    assert tally.record()["counts"] == COUNTS


@pytest.mark.parametrize("gold", [0, 1, 2])
def test_sampled_classes_follow_the_tally_and_are_wrong(gold: int) -> None:
    torch.manual_seed(gold)
    tally, draws = Tally(NLI, COUNTS), 6000
    found = torch.bincount(sampled(tally, torch.full((draws,), gold)), minlength=3)
    assert found[gold] == 0
    wrong = [label for label in range(3) if label != gold]
    assert chisquare(found[wrong], draws * tally.probabilities[gold, wrong]).pvalue > 0.001


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 1 - 2**-24])
def test_no_chance_leads_to_the_gold_label(chance: float) -> None:
    """Not those either that fall on a bound between two labels."""
    labels = torch.arange(3)
    for counts in (None, COUNTS):
        targets = Tally(NLI, counts).sample(labels, torch.full((3,), chance), torch.zeros(3), torch.zeros(()))
        assert not (targets == labels).any() and set(targets.tolist()) <= {0, 1, 2}
    largest = torch.tensor([2, 2, 1]) if chance > 0.9 else torch.tensor([1, 0, 0])
    assert chance in (0.25, 0.5) or Tally(NLI).sample(labels, torch.full((3,), chance), labels, labels).equal(largest)


def test_each_example_has_a_target_for_its_own_label() -> None:
    torch.manual_seed(0)
    labels = torch.randint(3, (500,))
    targets = sampled(Tally(NLI), labels)
    assert targets.shape == labels.shape and targets.dtype == torch.int64
    assert not (targets == labels).any() and set(targets.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("task", [STSB, UNIT], ids=["0-5", "-1-1"])
def test_sampled_values_lie_in_wrong_bins_in_proportion(task: TaskDef) -> None:
    torch.manual_seed(1)
    assert task.value_range is not None
    low, high = task.value_range
    counts = torch.zeros(10, 10)
    counts[3] = torch.arange(10.0)
    tally, draws = Tally(task, counts.tolist()), 20000
    values = sampled(tally, torch.full((draws,), low + 0.35 * (high - low)))
    shares = (values - low) / (high - low) * 10
    found = torch.bincount(shares.long(), minlength=10)
    assert values.dtype == torch.float64 and shares.min() >= 0 and shares.max() <= 10 and found[3] == 0
    wrong = [number for number in range(10) if number != 3]
    assert chisquare(found[wrong], draws * tally.probabilities[3, wrong]).pvalue > 0.001
    assert kstest((shares % 1).numpy(), "uniform").pvalue > 0.001  # and uniformly inside each


def test_values_of_a_narrow_range_far_from_zero_are_all_different() -> None:
    """In float32 there are two numbers from 2e8 to 2e8 + 16."""
    tally = Tally(task_of("far", value_range=(2e8, 2e8 + 16)))
    torch.manual_seed(1)
    values = sampled(tally, torch.full((500,), 2e8 + 1, dtype=torch.float64))
    assert len(values.unique()) > 490


def test_values_are_counted_in_ten_bins_and_clamped_into_the_range() -> None:
    tally = Tally(STSB)
    gold = torch.tensor([0.0, 0.49, 0.5, 2.6, 5.0])
    predicted = torch.tensor([[-7.0], [9.0], [4.99], [2.5], [0.0]])
    tally.count(gold, predicted, soft=True)  # a value has no probabilities
    tally.end_epoch()
    counts = torch.tensor(tally.record()["counts"])
    cells = [(0, 0), (0, 9), (1, 9), (5, 5), (9, 0)]
    assert counts.sum() == 5 and all(counts[cell] == 1 for cell in cells)


@pytest.mark.parametrize(("value", "number"), [(1e30, 9), (float("inf"), 9), (-1e30, 0), (-float("inf"), 0)])
def test_values_far_outside_the_range_fall_into_the_last_bins(value: float, number: int) -> None:
    tally = Tally(STSB)
    tally.count(torch.tensor([2.6]), torch.tensor([[value]]))
    tally.end_epoch()
    assert tally.record()["counts"][5][number] == 1


def test_a_regression_task_needs_its_value_range() -> None:
    task = STSB.model_copy(update={"value_range": None})
    with pytest.raises(UserError, match=r"stsb.*value_range"):
        Tally(task)


@given(st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), min_size=3, max_size=3), st.integers(0, 99))
def test_state_through_json_is_exact(counts: list[list[float]], seed: int) -> None:
    torch.manual_seed(seed)
    tally, labels = Tally(NLI, counts), torch.tensor([0, 1, 2, 1])
    tally.count(labels, torch.randn(4, 3), soft=True)
    resumed = Tally(NLI)
    resumed.load_state_dict(json.loads(json.dumps(tally.state_dict())))
    for ending in (False, True):
        if ending:
            more = torch.randn(4, 3)
            for one in (tally, resumed):
                one.count(labels, more, soft=True)
                one.end_epoch()
        assert torch.equal(resumed.probabilities, tally.probabilities)
        assert torch.equal(resumed.current, tally.current) and resumed.current.dtype == torch.float64


@pytest.mark.parametrize("task", [NLI, STSB])
def test_a_record_serves_as_an_oracle(task: TaskDef, tmp_path: Path) -> None:
    size = len(task.labels) or 10
    tally = Tally(task, torch.rand(size, size).tolist())
    path = tmp_path / "tally.json"
    path.write_text(json.dumps({"epoch": 3, **tally.record()}))
    assert torch.equal(Tally(task, read_counts(path, task)).probabilities, tally.probabilities)


def test_a_record_names_what_its_rows_are() -> None:
    record = Tally(STSB).record()
    assert record["task"] == "stsb" and record["labels"][:2] == ["0-0.5", "0.5-1"] and len(record["labels"]) == 10
    assert Tally(NLI).record()["labels"] == list(LABELS)


BAD: dict[str, tuple[Any, str]] = {
    "not JSON": ("{broken", "write JSON with labels and counts"),
    "a list": ([1, 2], "write JSON with labels and counts"),
    "no counts": ({"labels": LABELS}, "write JSON with labels and counts"),
    "counts that are words": ({"labels": LABELS, "counts": [["a"] * 3] * 3}, "write JSON with labels and counts"),
    "a number for counts": ({"labels": LABELS, "counts": 3}, "write JSON with labels and counts"),
    "bytes": (b"\xff\xfe\x00", "not UTF-8 .it is UTF-16; save it as UTF-8"),
    "too deep": (100_000 * "[", "write JSON with labels and counts"),
    "labels in another order": ({"labels": LABELS[::-1], "counts": COUNTS}, "no, maybe, yes"),
    "a label too few": ({"labels": LABELS[:2], "counts": COUNTS}, "no, maybe, yes"),
    "a row too few": ({"labels": LABELS, "counts": COUNTS[:2]}, "labels are not those of nli"),
    "a short row": ({"labels": LABELS, "counts": [*COUNTS[:2], [1.0]]}, "labels are not those of nli"),
    "negative": ({"labels": LABELS, "counts": [*COUNTS[:2], [1.0, -1.0, 0.0]]}, "from 0 on"),
    "infinite": ({"labels": LABELS, "counts": [*COUNTS[:2], [1.0, float("inf"), 0.0]]}, "from 0 on"),
    "not a number": ({"labels": LABELS, "counts": [*COUNTS[:2], [1.0, float("nan"), 0.0]]}, "from 0 on"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_oracle_is_one_line(kind: str, tmp_path: Path) -> None:
    content, message = BAD[kind]
    path = tmp_path / "oracle.json"
    path.write_bytes(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        read_counts(path, NLI)
    assert str(caught.value).startswith(f"{path}: adversary.oracle: ") and "\n" not in str(caught.value)


def test_a_missing_oracle_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nonesuch.json", tmp_path):
        with pytest.raises(UserError, match="not readable") as caught:
            read_counts(path, NLI)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_sums_of_a_tally_are_computed_once_until_the_counts_change() -> None:
    """Each computation would be a copy to the device that the process waits for."""
    tally, labels = Tally(NLI, COUNTS), torch.arange(3)
    first = tally._cumulative(labels.device)
    assert tally._cumulative(labels.device) is first
    tally.count(labels, torch.eye(3).roll(1, 0))
    tally.end_epoch()
    changed = tally._cumulative(labels.device)
    assert not changed.equal(first) and changed.equal(tally.probabilities.cumsum(1))
