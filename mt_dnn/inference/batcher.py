"""Predicts for several clients in one thread. What waits while the model computes goes through it together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

from data_utils.errors import UserError
from data_utils.inputs import Input
from mt_dnn.inference.predict import Wanted

Answers = list[dict[str, Any]]
Predict = Callable[[str, Wanted, Sequence[Input]], Answers]


class Full(Exception):
    """So many rows wait that a request is refused."""


class Draining(Exception):
    """No further request is accepted, because the process ends."""


@dataclass
class Request:
    """Rows of one task that a client waits for. ``answers`` gets one dictionary for each row, or an error."""

    task: str
    wanted: Wanted
    rows: Sequence[Input]
    answers: Future[Answers] = field(default_factory=Future)

    def joins(self, other: Request) -> bool:
        """Whether both can go through the model together."""
        return (self.task, self.wanted) == (other.task, other.wanted)


class Batcher:
    """A queue of requests and the thread that answers them. Requests of one task share a batch, the oldest comes first.

    Args:
        predict: gives the answers for rows of a task.
        queue_rows: the most rows that wait.
        batch_rows: the most rows that ``predict`` gets at once, or as many as the oldest request has.
    """

    def __init__(self, predict: Predict, *, queue_rows: int, batch_rows: int) -> None:
        self.predict, self.queue_rows, self.batch_rows = predict, queue_rows, batch_rows
        self.draining = False
        self._waiting: deque[Request] = deque()
        self._computing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="mt-dnn batcher", daemon=True)
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        return sum(len(request.rows) for request in tuple(self._waiting))

    @property
    def idle(self) -> bool:
        """Whether every request that was accepted is answered."""
        with self._changed:
            return not self._waiting and not self._computing

    def submit(self, request: Request) -> Future[Answers]:
        """Accepts a request. From now on it will be answered, also if ``drain`` is called.

        Raises:
            Draining: ``drain`` was called before.
            Full: too many rows wait.
        """
        with self._changed:
            if self.draining:
                raise Draining
            if self._waiting and self.waiting_rows + len(request.rows) > self.queue_rows:
                raise Full
            self._waiting.append(request)
            self._changed.notify()
        return request.answers

    def drain(self) -> None:
        """Accepts nothing more. It takes no lock, because a signal may interrupt the thread that holds it."""
        self.draining = True

    def close(self) -> None:
        """Answers what was accepted, and ends the thread."""
        self.drain()
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while requests := self._next():
            self._answer(requests)
            with self._changed:
                self._computing = False

    def _next(self) -> list[Request]:
        """Waits for requests. Returns the oldest and those that join it; none when all is answered at the end."""
        with self._changed:
            while not self._waiting:
                if self.draining:
                    return []
                self._changed.wait()
            self._computing = True
            found = [self._waiting.popleft()]
            rows, others = len(found[0].rows), deque[Request]()
            for request in self._waiting:
                if request.joins(found[0]) and rows + len(request.rows) <= self.batch_rows:
                    found.append(request)
                    rows += len(request.rows)
                else:
                    others.append(request)
            self._waiting = others
            return found

    def _answer(self, requests: Sequence[Request]) -> None:
        """Answers requests. If a row of one is wrong, each is answered alone, so that the others get theirs."""
        heard = [request for request in requests if _claimed(request)]
        if not heard:
            return
        try:
            found = iter(self.predict(heard[0].task, heard[0].wanted, [row for each in heard for row in each.rows]))
            for request in heard:
                request.answers.set_result([next(found) for _ in request.rows])
        except UserError as error:
            if len(heard) == 1:
                heard[0].answers.set_exception(error)
            else:
                for request in heard:
                    self._answer([request])
        except Exception as error:  # whatever it was, the thread has to go on
            for request in heard:
                if not request.answers.done():
                    request.answers.set_exception(error)


def _claimed(request: Request) -> bool:
    """Whether somebody still waits for the answers. From then on nobody can cancel them."""
    return request.answers.running() or request.answers.set_running_or_notify_cancel()
