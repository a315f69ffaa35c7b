"""The golden file: what of each combination's figures is kept, and how figures are compared with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.golden.inputs import machine

FILE = Path(__file__).with_name("figures.json")


def kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run that the golden file holds, with nine digits, which tell float32 numbers apart."""
    updates = figures["updates"]
    own = {
        "loss": [update["loss"] for update in updates],
        "grad_norm": [update["grad_norm"] for update in updates],
        "lr": [update["lr"] for update in updates],
        "adversary": [update.get("adversary", {}) for update in updates],
        "loss_factors": [update.get("loss_factors", {}) for update in updates],
        "norms": figures["norms"],
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
