"""The queue of requests: who shares a batch, who is refused, and that one request never spoils another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import pytest

from data_utils.errors import UserError
from data_utils.inputs import Input
from mt_dnn.inference.batcher import Batcher, Draining, Full, Request
from mt_dnn.inference.predict import Wanted

TIMEOUT = 10
PLAIN = Wanted()


class Model:
    """Answers each row with its text. It waits until ``go`` is set, and keeps the texts of each batch."""

    def __init__(self) -> None:
        self.go, self.begun, self.batches = Event(), Event(), list[tuple[str, list[str]]]()

    def __call__(self, task: str, wanted: Wanted, rows: Sequence[Input]) -> list[dict[str, Any]]:
        self.begun.set()
        assert self.go.wait(TIMEOUT)
        texts = [row.values["premise"] for row in rows if isinstance(row.values, dict)]
        self.batches.append((task, texts))
        if "bad" in texts:
            raise UserError("row 1: bad")
        if "crash" in texts:
            raise RuntimeError("no memory")
        return [{"prediction": text} for text in texts]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Iterator[Batcher]:
    batcher = Batcher(model, queue_rows=5, batch_rows=4)
    yield batcher
    model.go.set()
    batcher.close()


def request(*texts: str, task: str = "a", wanted: Wanted = PLAIN) -> Request:
    return Request(task, wanted, [Input(f"row {n}", n, {"premise": text}) for n, text in enumerate(texts, 1)])


def busy(batcher: Batcher, model: Model) -> Request:
    """A request that the model computes, so that all others wait."""
    first = request("first")
    batcher.submit(first)
    assert model.begun.wait(TIMEOUT)
    return first


def answers(request: Request) -> list[Any]:
    return [found["prediction"] for found in request.answers.result(TIMEOUT)]


def test_requests_of_one_task_that_wait_share_a_batch_and_the_oldest_comes_first(
    batcher: Batcher, model: Model
) -> None:
    waiting = [busy(batcher, model)]
    waiting += [request("1"), request("2", task="b"), request("3"), request("4", wanted=Wanted(logits=True))]
    for each in waiting[1:]:
        batcher.submit(each)
    assert batcher.waiting_rows == 4 and not batcher.idle
    model.go.set()
    assert [answers(each) for each in waiting] == [["first"], ["1"], ["2"], ["3"], ["4"]]
    assert model.batches == [("a", ["first"]), ("a", ["1", "3"]), ("b", ["2"]), ("a", ["4"])]


def test_a_batch_has_at_most_so_many_rows_but_a_request_stays_together(batcher: Batcher, model: Model) -> None:
    waiting = [busy(batcher, model), request("1", "2", "3"), request("4", "5")]
    for each in waiting[1:]:
        batcher.submit(each)
    model.go.set()
    assert [answers(each) for each in waiting[1:]] == [["1", "2", "3"], ["4", "5"]]
    assert [texts for _, texts in model.batches] == [["first"], ["1", "2", "3"], ["4", "5"]]


def test_a_full_queue_refuses_and_takes_requests_again(batcher: Batcher, model: Model) -> None:
    busy(batcher, model)
    kept = request(*"12345678")  # alone it may be larger than the queue
    batcher.submit(kept)
    with pytest.raises(Full):
        batcher.submit(request("9"))
    model.go.set()
    assert answers(kept) == list("12345678")
    later = request("10")
    batcher.submit(later)
    assert answers(later) == ["10"]


def test_a_wrong_row_costs_only_its_request(batcher: Batcher, model: Model) -> None:
    busy(batcher, model)
    right, wrong, other = request("1"), request("bad"), request("2")
    for each in (right, wrong, other):
        batcher.submit(each)
    model.go.set()
    assert answers(right) == ["1"] and answers(other) == ["2"]
    with pytest.raises(UserError, match="row 1: bad"):
        wrong.answers.result(TIMEOUT)


def test_an_unforeseen_error_reaches_the_client_and_the_thread_goes_on(batcher: Batcher, model: Model) -> None:
    model.go.set()
    crash, later = request("crash"), request("1")
    batcher.submit(crash)
    with pytest.raises(RuntimeError, match="no memory"):
        crash.answers.result(TIMEOUT)
    batcher.submit(later)
    assert answers(later) == ["1"]


def test_nothing_is_computed_for_a_client_that_has_gone(batcher: Batcher, model: Model) -> None:
    busy(batcher, model)
    gone, kept = request("gone"), request("1")
    for each in (gone, kept):
        batcher.submit(each)
    assert gone.answers.cancel()
    model.go.set()
    assert answers(kept) == ["1"] and model.batches[-1] == ("a", ["1"])


def test_what_was_accepted_is_answered_at_the_end_and_nothing_more_is_accepted(batcher: Batcher, model: Model) -> None:
    waiting = [busy(batcher, model), request("1"), request("2", task="b")]
    for each in waiting[1:]:
        batcher.submit(each)
    batcher.drain()
    with pytest.raises(Draining):
        batcher.submit(request("3"))
    assert not batcher.idle
    model.go.set()
    batcher.close()
    assert [answers(each) for each in waiting] == [["first"], ["1"], ["2"]] and batcher.idle
