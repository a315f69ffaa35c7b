"""Sampling: which rows an epoch serves, for every strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.errors import UserError
from mt_dnn.batches.plan import MicroBatch, Plan
from mt_dnn.batches.sampling import SamplingConfig, epoch_batches, generator_of, probabilities

STRATEGIES = ("proportional", "uniform", "temperature", "annealed", "weights", "mtdnn")
SIZES = {"mnli": 300, "rte": 40, "stsb": 7}


def sampling(**options: Any) -> SamplingConfig:
    return SamplingConfig.model_validate(options)


def settings_of(
    strategy: str, sizes: dict[str, int], *, epochs: int = 3, batch: int = 8, **more: Any
) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "temperature": {"temperature": 4.0, "size_cap": 100},
        "weights": {"weights": {task: float(i + 1) for i, task in enumerate(sizes)}},
        "mtdnn": {"ratio": 0.5, "mix_opt": 1},
    }
    defaults = {"accumulate": 1, "mix_tasks": False, "seed": 5, "epochs": epochs}
    config = sampling(strategy=strategy, **options.get(strategy, {}))
    return {"sampling": config, "batch_sizes": dict.fromkeys(sizes, batch), **defaults, **more}


def batches(plan: Iterable[tuple[MicroBatch, ...]]) -> list[MicroBatch]:
    return list(chain.from_iterable(plan))


def counted(plan: Iterable[tuple[MicroBatch, ...]]) -> Counter[str]:
    return Counter(batch.task for batch in batches(plan))


def flat(plan: Iterable[tuple[MicroBatch, ...]]) -> list[list[tuple[str, list[int]]]]:
    return [[(batch.task, batch.rows.tolist()) for batch in update] for update in plan]


sizes_strategy = st.dictionaries(
    st.sampled_from(["mnli", "rte", "st_s-b", "cola"]), st.integers(1, 60), min_size=1, max_size=4
)
plans = {
    "sizes": sizes_strategy,
    "strategy": st.sampled_from(STRATEGIES),
    "batch": st.integers(1, 20),
    "accumulate": st.integers(1, 4),
    "mix_tasks": st.booleans(),
    "seed": st.integers(0, 2**40),
}


@settings(max_examples=60, deadline=None)
@given(**plans)
def test_no_row_is_served_twice_before_all_others_were(
    sizes: dict[str, int], strategy: str, batch: int, accumulate: int, mix_tasks: bool, seed: int
) -> None:
    epochs = 4
    options = settings_of(
        strategy, sizes, epochs=epochs, batch=batch, accumulate=accumulate, mix_tasks=mix_tasks, seed=seed
    )
    served: dict[str, Counter[int]] = {task: Counter() for task in sizes}
    for epoch in range(epochs):
        for one in batches(Plan(sizes=sizes, **options).epoch(epoch)):
            assert one.rows.dtype == np.int64
            assert 0 < len(one.rows) <= batch
            served[one.task].update(one.rows.tolist())
            times = [served[one.task][row] for row in range(sizes[one.task])]
            assert max(times) - min(times) <= 1
            assert sum(times) == served[one.task].total()  # no row beyond the last


@settings(max_examples=60, deadline=None)
@given(**plans)
def test_update_counts_are_exact_and_plans_repeat(
    sizes: dict[str, int], strategy: str, batch: int, accumulate: int, mix_tasks: bool, seed: int
) -> None:
    options = settings_of(strategy, sizes, epochs=3, batch=batch, accumulate=accumulate, mix_tasks=mix_tasks, seed=seed)
    plan = Plan(sizes=sizes, **options)
    made = [list(plan.epoch(epoch)) for epoch in range(3)]
    assert [plan.updates_in(epoch) for epoch in range(3)] == [len(updates) for updates in made]
    assert [plan.updates_before(epoch, 1) for epoch in (0, 2)] == [1, len(made[0]) + len(made[1]) + 1]
    assert plan.total_steps == sum(map(len, made))
    for most in (1, len(made[0]), len(made[0]) + 1, 10**6):
        assert Plan(sizes=sizes, **options, max_steps=most).total_steps == min(most, plan.total_steps)
    assert flat(Plan(sizes=sizes, **options).epoch(2)) == flat(made[2])
    for update in chain.from_iterable(made):
        assert 1 <= len(update) <= accumulate
        assert mix_tasks or len({one.task for one in update}) == 1


@settings(max_examples=40, deadline=None)
@given(sizes=sizes_strategy, batch=st.integers(1, 20), mix_tasks=st.booleans(), seed=st.integers(0, 99))
def test_proportional_serves_every_row_once(sizes: dict[str, int], batch: int, mix_tasks: bool, seed: int) -> None:
    options = settings_of("proportional", sizes, batch=batch, mix_tasks=mix_tasks, seed=seed, accumulate=3)
    plan = list(Plan(sizes=sizes, **options).epoch(1))
    for task, rows in sizes.items():
        own = [one.rows.tolist() for one in batches(plan) if one.task == task]
        assert sorted(chain.from_iterable(own)) == list(range(rows))
        assert len(own) == -(-rows // batch)


def test_the_order_of_rows_is_numpys_permutation_of_64_bit_numbers() -> None:
    """Runs of earlier versions, which held 64 bits for each row, go on with the same rows."""
    plan = Plan(sizes={"rte": 1000}, **settings_of("proportional", {"rte": 1000}))
    rows = np.concatenate([batch.rows for batch in batches(plan.epoch(0))])
    assert rows.dtype == np.int64
    assert rows.tolist() == generator_of(5, "rows", "rte", 0).permutation(1000).tolist()


def test_every_epoch_has_new_batches() -> None:
    options = settings_of("proportional", SIZES)

    def cut(epoch: int) -> set[frozenset[int]]:
        plan = Plan(sizes=SIZES, **options).epoch(epoch)
        return {frozenset(one.rows.tolist()) for one in batches(plan) if one.task == "mnli"}

    assert not cut(0) & cut(1)


def test_seeds_differ() -> None:
    one, other = (Plan(sizes=SIZES, **settings_of("uniform", SIZES, seed=seed)).epoch(0) for seed in (1, 2))
    assert flat(one) != flat(other)


def test_probabilities() -> None:
    def of(epoch: int = 0, epochs: int = 5, **options: Any) -> dict[str, float]:
        return probabilities({"a": 900, "b": 100}, config=sampling(**options), epoch=epoch, epochs=epochs)

    assert of(strategy="uniform") == {"a": 0.5, "b": 0.5}
    assert of(strategy="temperature") == pytest.approx({"a": 0.9, "b": 0.1})
    assert of(strategy="temperature", temperature=2.0) == pytest.approx({"a": 0.75, "b": 0.25})
    assert of(strategy="temperature", size_cap=300) == pytest.approx({"a": 0.75, "b": 0.25})
    assert of(strategy="weights", weights={"b": 3, "a": 1}) == pytest.approx({"a": 0.25, "b": 0.75})
    assert of(strategy="annealed") == pytest.approx({"a": 0.9, "b": 0.1})
    assert of(strategy="annealed", epochs=1) == pytest.approx({"a": 0.9, "b": 0.1})
    # α = 1 − 0.8·(5−1)/(5−1) = 0.2 in the last epoch: 9^0.2 : 1
    assert of(strategy="annealed", epoch=4) == pytest.approx({"a": 9**0.2 / (9**0.2 + 1), "b": 1 / (9**0.2 + 1)})
    # epoch 3 of 5: α = 0.6
    assert of(strategy="annealed", epoch=2)["a"] == pytest.approx(9**0.6 / (9**0.6 + 1))


@pytest.mark.parametrize("strategy", ["uniform", "temperature", "annealed", "weights"])
def test_batches_follow_the_probabilities(strategy: str) -> None:
    epochs = 40
    options = settings_of(strategy, SIZES, epochs=epochs)
    total = 38 + 5 + 1
    surplus = dict.fromkeys(SIZES, 0.0)
    for epoch in range(epochs):
        counts = counted(Plan(sizes=SIZES, **options).epoch(epoch))
        expected = probabilities(SIZES, config=options["sampling"], epoch=epoch, epochs=epochs)
        assert counts.total() == total
        assert all(abs(counts[task] - total * p) < 1 for task, p in expected.items())
        for task, p in expected.items():
            surplus[task] += counts[task] - total * p
    assert all(abs(over) < 0.3 * epochs for over in surplus.values())  # rounding favours no task


def test_a_rare_task_has_its_turn() -> None:
    sizes = {"mnli": 4000, "rte": 10}
    options = settings_of("weights", sizes, epochs=200, batch=400)
    options["sampling"] = sampling(strategy="weights", weights={"mnli": 0.98, "rte": 0.02})
    turns = sum(counted(Plan(sizes=sizes, **options).epoch(epoch))["rte"] for epoch in range(200))
    assert 25 < turns < 65  # 200 epochs × 11 batches × 0.02 = 44


def test_weight_zero_leaves_a_task_out() -> None:
    options = settings_of("weights", SIZES)
    options["sampling"] = sampling(strategy="weights", weights={"mnli": 1, "rte": 1, "stsb": 0})
    assert counted(Plan(sizes=SIZES, **options).epoch(0)).keys() == {"mnli", "rte"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mnli": 1, "rte": 1, "stbs": 1}, "'stbs' is not a training task, did you mean 'stsb'"),
        ({"mnli": 1}, "no weight for rte, stsb"),
        ({"mnli": 1, "rte": -1, "stsb": 1}, "from 0 upwards"),
        ({"mnli": 0, "rte": 0, "stsb": 0}, "at least one above 0"),
    ],
)
def test_bad_weights(weights: dict[str, float], message: str) -> None:
    options = settings_of("proportional", SIZES)
    options["sampling"] = sampling(strategy="weights", weights=weights)
    with pytest.raises(UserError, match=message):
        Plan(sizes=SIZES, **options).epoch(0)


def test_a_task_without_rows_is_named() -> None:
    with pytest.raises(UserError, match="rte: no training rows"):
        Plan(sizes={"mnli": 3, "rte": 0}, **settings_of("proportional", {"mnli": 3, "rte": 0})).epoch(0)


def test_epoch_beyond_the_run() -> None:
    with pytest.raises(ValueError, match="epoch 3 of 3"):
        Plan(sizes=SIZES, **settings_of("proportional", SIZES, epochs=3)).epoch(3)


@pytest.mark.parametrize(
    ("ratio", "mix_opt", "others"), [(0.0, 0, 37), (0.0, 1, 37), (0.5, 0, 5), (0.5, 1, 5), (9.0, 1, 37)]
)
def test_mtdnn(ratio: float, mix_opt: int, others: int) -> None:
    sizes = {"main": 80, "rte": 240, "stsb": 50}  # 10, 30 and 7 batches
    options = settings_of("mtdnn", sizes)
    options["sampling"] = sampling(strategy="mtdnn", ratio=ratio, mix_opt=mix_opt)
    plan = Plan(sizes=sizes, **options).epoch(1)
    tasks = [one.task for one in batches(plan)]
    assert tasks.count("main") == 10
    assert len(tasks) == 10 + others
    main_last = tasks[-10:] == ["main"] * 10
    assert main_last == (mix_opt == 1)
    assert others == 5 or len(list(groupby(tasks[:others]))) > 5  # shuffled


def test_mtdnn_draws_other_tasks_by_their_batches() -> None:
    sizes = {"main": 80, "rte": 240, "stsb": 80}
    options = settings_of("mtdnn", sizes, epochs=100)
    drawn: Counter[str] = Counter()
    for epoch in range(100):
        drawn += counted(Plan(sizes=sizes, **options).epoch(epoch))
    assert drawn["main"] == 1000
    assert drawn["rte"] + drawn["stsb"] == 500
    assert 330 < drawn["rte"] < 420  # 3 of 4


def test_accumulation_mixes_tasks_or_not() -> None:
    sizes = {"a": 64, "b": 36}
    kept = list(Plan(sizes=sizes, **settings_of("proportional", sizes, accumulate=4)).epoch(0))
    assert sorted(len(update) for update in kept) == [1, 4, 4, 4]
    assert [len(update[-1].rows) for update in kept if len(update) == 1] == [4]  # short, not padded
    mixed = list(Plan(sizes=sizes, **settings_of("proportional", sizes, accumulate=4, mix_tasks=True)).epoch(0))
    assert [len(update) for update in mixed] == [4, 4, 4, 1]
    assert any(len({one.task for one in update}) == 2 for update in mixed)


def test_batch_sizes_per_task() -> None:
    options = settings_of("proportional", SIZES, batch_sizes={"mnli": 100, "rte": 20, "stsb": 4})
    assert counted(Plan(sizes=SIZES, **options).epoch(0)) == {"mnli": 3, "rte": 2, "stsb": 2}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_epochs_of_one_task_are_not_counted_one_by_one(strategy: str) -> None:
    sizes = {"rte": 40}
    options = settings_of(strategy, sizes, epochs=10**9, accumulate=4)
    few = Plan(sizes=sizes, **{**options, "epochs": 10})
    assert few.total_steps == sum(len(list(few.epoch(number))) for number in range(10)) == 20
    assert Plan(sizes=sizes, **options).total_steps == 2 * 10**9


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_later_epoch_is_planned(strategy: str, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(*args: Any, epoch: int, **options: Any) -> dict[str, int]:
        asked.append(epoch)
        return epoch_batches(*args, epoch=epoch, **options)

    monkeypatch.setattr("mt_dnn.batches.plan.epoch_batches", counting)
    plan = Plan(sizes=SIZES, **settings_of(strategy, SIZES, epochs=10**6, accumulate=accumulate), max_steps=50)
    assert plan.total_steps == 50
    for epoch in range(4):
        next(plan.epoch(epoch))
    assert max(asked) < 12 and len(asked) < 25


def test_epochs_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[int] = Counter()

    def counting(*args: Any, epoch: int, **options: Any) -> dict[str, int]:
        asked[epoch] += 1
        return epoch_batches(*args, epoch=epoch, **options)

    monkeypatch.setattr("mt_dnn.batches.plan.epoch_batches", counting)
    plan = Plan(sizes=SIZES, **settings_of("uniform", SIZES, epochs=100))
    for epoch in range(100):
        next(plan.epoch(epoch))
    assert max(asked.values()) <= 2  # for the epoch itself, and for where later epochs begin


def test_rows_are_put_in_order_when_their_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {f"task{number}": 8 for number in range(100)}
    updates = Plan(sizes=sizes, **settings_of("proportional", sizes)).epoch(0)
    ordered: list[Any] = []

    def noting(*key: Any) -> np.random.Generator:
        ordered.append(key)
        return generator_of(*key)

    monkeypatch.setattr("mt_dnn.batches.plan.generator_of", noting)
    next(updates)
    assert [key[1] for key in ordered] == ["rows"]
