"""Telemetry: means and counts over some updates. They stay on the device until they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Telemetry:
    """Sums by name. A mean has the sum of weighted values and the sum of their weights. A count has no weights.

    Args:
        state: what ``state_dict`` returned, to continue from it.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.sums: dict[str, Tensor | float] = dict(state["sums"]) if state else {}
        self.weights: dict[str, float] = dict(state["weights"]) if state else {}

    def mean(self, name: str, value: Tensor | float, weight: float = 1.0) -> None:
        """Adds a value with a weight to a mean."""
        self.sums[name] = self.sums.get(name, 0.0) + value * weight
        self.weights[name] = self.weights.get(name, 0.0) + weight

    def count(self, name: str, value: Tensor | float) -> None:
        """Adds to a count."""
        self.sums[name] = self.sums.get(name, 0.0) + value

    def repeat(self, name: str, other: str) -> None:
        """Gives a mean another name too."""
        self.sums[other], self.weights[other] = self.sums[name], self.weights[name]

    def add(self, other: Telemetry) -> None:
        """Adds the sums of another ``Telemetry``."""
        for sums, more in ((self.sums, other.sums), (self.weights, other.weights)):
            for name, value in more.items():
                sums[name] = sums.get(name, 0.0) + value  # type: ignore[assignment]

    def values(self) -> dict[str, float]:
        """The means and the counts as numbers. Waits for the device."""
        return {name: float(value) / self.weights.get(name, 1.0) for name, value in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums and weights as JSON values. Waits for the device."""
        self.sums = {name: float(value) for name, value in self.sums.items()}
        return {"sums": self.sums, "weights": self.weights}
