"""Progress of a run: what a checkpoint must know besides weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mt_dnn.distributed.ranks import all_gather, is_main
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.loop import Position, Step


@dataclass
class Progress:
    """Where a run stands; ``window`` is what was not logged yet."""

    position: Position = field(default_factory=Position)
    best_step: int | None = None
    best_score: float | None = None
    stale: int = 0
    window: Telemetry = field(default_factory=Telemetry)
    finished: bool = False
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Progress:
        """From what ``state_dict`` gave; the main rank holds the window of all."""
        window = Telemetry(state["window"] if is_main() else None)
        return cls(**{**state, "position": Position(**state["position"]), "window": window})

    def state_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**own, "position": asdict(self.position), "window": self.window.state_dict()}

    def count(self, event: Step) -> None:
        """An update was made; its figures stay on the device until they are logged."""
        self.position = event.position
        self.window.mean("loss", event.loss)
        self.window.add(event.telemetry)

    def collect(self) -> dict[str, float]:
        """The window's figures over all ranks, the same on all of them; from here on the main rank holds them."""
        whole = Telemetry()
        for state in all_gather(self.window.state_dict()):
            whole.add(Telemetry(state))
        self.window = whole if is_main() else Telemetry()
        return whole.values()

    def better(self, value: float) -> bool:
        """Notes the score of an evaluation; whether it is the best so far."""
        best = self.best_score is None or value > self.best_score
        if best:
            self.best_score, self.best_step, self.stale = value, self.position.step, 0
        else:
            self.stale += 1
        return best
