"""The golden file: what of each combination's figures is kept, and how figures are compared with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.golden.inputs import machine

FILE = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Tolerance:
    """A figure fits when it is off by at most ``absolute + relative · |golden|``."""

    relative: float
    absolute: float = 0.0


# The longest of these that the place of a figure starts with holds for it. README.md says what was measured.
TOLERANCES: Mapping[str, Tolerance] = {
    "lr": Tolerance(1e-8),
    "loss": Tolerance(2e-5),
    "loss_factors": Tolerance(1e-5),
    "grad_norm": Tolerance(1e-4),
    "adversary": Tolerance(1e-4, 2e-6),
    "norms": Tolerance(2e-5),
    "norms/optimizer": Tolerance(3e-5),
    "answers": Tolerance(3e-5),
    "scores": Tolerance(0.0, 0.05),  # two of the 40 dev rows
}


@dataclass(frozen=True)
class Pair:
    """A golden figure and what it is now; ``place`` says which figure it is."""

    place: str
    golden: Any
    now: Any

    @property
    def deviation(self) -> float:
        """How far they are apart, as a share of the tolerance; above 1 the figure does not fit."""
        if not isinstance(self.golden, float) or not isinstance(self.now, float):
            return 0.0 if self.golden == self.now else float("inf")
        own = self.tolerance
        apart, allowed = abs(self.golden - self.now), own.absolute + own.relative * abs(self.golden)
        return apart / allowed if allowed else (float("inf") if apart else 0.0)

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of this kind of figure."""
        return TOLERANCES[self.kind]

    @property
    def kind(self) -> str:
        """The kind of figure, a key of ``TOLERANCES``."""
        return max((kind for kind in TOLERANCES if self.place.startswith(kind)), key=len, default="lr")


def kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run that the golden file holds, with nine digits, which tell float32 numbers apart."""
    updates = figures["updates"]
    own = {
        "loss": [update["loss"] for update in updates],
        "grad_norm": [update["grad_norm"] for update in updates],
        "lr": [update["lr"] for update in updates],
        "adversary": [update.get("adversary", {}) for update in updates],
        "loss_factors": [update.get("loss_factors", {}) for update in updates],
        "norms": {group: norm for group, norm in figures["norms"].items() if norm},
        "answers": {name: answer["norm"] for name, answer in figures["answers"].items() if answer["count"]},
        "scores": {f"{result['task']} {result['split']}": result["scores"] for result in figures["summary"]["results"]},
    }
    return rounded({name: value for name, value in own.items() if value and value != [{}] * len(updates)})


def rounded(value: Any) -> Any:
    """Numbers with nine digits, inside dictionaries and lists too."""
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def write_figures(combinations: Mapping[str, Any]) -> None:
    """Writes the golden file: the machine, then one line per combination."""
    lines = [f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in combinations.items()]
    body = ",\n".join(lines)
    FILE.write_text(f'{{"machine": {json.dumps(machine())},\n"combinations": {{\n{body}\n}}}}\n', encoding="utf-8")


def read_figures() -> tuple[dict[str, str], dict[str, Any]]:
    """The machine that wrote the golden file, and the figures of each combination."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return content["machine"], content["combinations"]


def pairs(golden: Any, now: Any, place: str = "") -> Iterator[Pair]:
    """Every figure beside its golden one; where the structures differ, the structures themselves."""
    if isinstance(golden, Mapping) and isinstance(now, Mapping) and golden.keys() == now.keys():
        for key in golden:
            yield from pairs(golden[key], now[key], f"{place}/{key}" if place else key)
    elif isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        for number, (one, other) in enumerate(zip(golden, now, strict=True), 1):
            yield from pairs(one, other, f"{place}/{number}")
    else:
        yield Pair(place, golden, now)


def misfits(golden: Any, now: Any) -> list[str]:
    """A line for every figure that is off by more than its tolerance."""
    found = [pair for pair in pairs(golden, now) if pair.deviation > 1]
    return [f"{pair.place}: {pair.golden} golden, {pair.now} now ({pair.deviation:.3g} tolerances)" for pair in found]


def largest(found: Sequence[Pair]) -> dict[str, Pair]:
    """Of each kind of figure the pair that is farthest apart, as a share of the tolerance."""
    kinds: dict[str, Pair] = {}
    for pair in found:
        if pair.kind not in kinds or pair.deviation > kinds[pair.kind].deviation:
            kinds[pair.kind] = pair
    return kinds
