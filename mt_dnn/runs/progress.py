"""The progress of a run: updates made, best score, figures for the log, and speed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mt_dnn.distributed.ranks import all_gather, is_main
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.loop import Position, Step


@dataclass
class Progress:
    """How far a run has come. A checkpoint holds it.

    Args:
        position: how many updates were made.
        best_step: the update after which the best model was evaluated. None before the first evaluation.
        best_score: the score of the best model.
        stale: how many evaluations were made since the best one.
        window: the figures since the last line of the log.
        finished: True when no more updates will be made.
        data: the hash of each prepared split, by ``<task>/<split>``.
    """

    position: Position = field(default_factory=Position)
    best_step: int | None = None
    best_score: float | None = None
    stale: int = 0
    window: Telemetry = field(default_factory=Telemetry)
    finished: bool = False
    data: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, "position": asdict(self.position), "window": self.window.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned. Only the main rank takes the window, with the sums of all ranks."""
        window = Telemetry(state["window"] if is_main() else None)
        for name, value in {**state, "position": Position(**state["position"]), "window": window}.items():
            setattr(self, name, value)

    def count(self, event: Step) -> None:
        """Adds an update. Its figures stay on the device until ``collect`` reads them."""
        self.position = event.position
        self.window.mean("loss", event.loss)
        self.window.add(event.telemetry)

    def collect(self) -> dict[str, float]:
        """Moves the sums of the window from all ranks to the main rank. Returns their means on every rank."""
        sums = Telemetry()
        for state in all_gather(self.window.state_dict()):
            sums.add(Telemetry(state))
        self.window = sums if is_main() else Telemetry()
        return sums.values()

    def new_window(self) -> None:
        """Forgets the figures so far, because they are in the log."""
        self.window = Telemetry()

    def better(self, value: float) -> bool:
        """Notes the score of an evaluation. Returns True if it is the best so far."""
        best = self.best_score is None or value > self.best_score
        if best:
            self.best_score, self.best_step, self.stale = value, self.position.step, 0
        else:
            self.stale += 1
        return best

    def forget_best(self) -> str:
        """Forgets the best model, because its checkpoint is missing. Returns which models can be the best from now."""
        self.best_step, self.best_score, self.stale = None, None, 0
        return "the last one" if self.finished else "later ones"


class Speed:
    """Counts the examples and tokens of this rank since the last line of the log."""

    def __init__(self) -> None:
        self.started, self.examples, self.tokens = time.perf_counter(), 0, 0

    def count(self, event: Step) -> None:
        """Adds an update."""
        self.examples += event.examples
        self.tokens += event.tokens

    def per_second(self) -> dict[str, float]:
        """Returns ``examples_per_s`` and ``tokens_per_s`` of all ranks together, and restarts clock and counts."""
        now = time.perf_counter()
        seconds, self.started = now - self.started, now
        examples, tokens = zip(*all_gather((self.examples, self.tokens)), strict=True)
        self.examples = self.tokens = 0
        return {
            "examples_per_s": round(sum(examples) / seconds, 2),
            "tokens_per_s": round(sum(tokens) / seconds, 2),
        }
