"""Telemetry: means and totals of a stretch of training, on the device until they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Telemetry:
    """Named sums; a mean is a sum over its weight, a total has none."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.sums: dict[str, Tensor | float] = dict(state["sums"]) if state else {}
        self.weights: dict[str, float] = dict(state["weights"]) if state else {}

    def mean(self, name: str, value: Tensor | float, weight: float = 1.0) -> None:
        """Adds a value that counts by its weight."""
        self.sums[name] = self.sums.get(name, 0.0) + value * weight
        self.weights[name] = self.weights.get(name, 0.0) + weight

    def count(self, name: str, value: Tensor | float) -> None:
        """Adds to a count."""
        self.sums[name] = self.sums.get(name, 0.0) + value

    def add(self, other: Telemetry) -> None:
        """Adds what another stretch has gathered."""
        for mine, theirs in ((self.sums, other.sums), (self.weights, other.weights)):
            for name, value in theirs.items():
                mine[name] = mine.get(name, 0.0) + value  # type: ignore[assignment]

    def values(self) -> dict[str, float]:
        """Means and totals as numbers; waits for the device."""
        return {name: float(value) / self.weights.get(name, 1.0) for name, value in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        self.sums = {name: float(value) for name, value in self.sums.items()}
        return {"sums": self.sums, "weights": self.weights}
