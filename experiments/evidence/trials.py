"""Writes experiments/evidence/core.yml: draws the trials of every mode with a fixed seed.

python experiments/evidence/trials.py > experiments/evidence/core.yml
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

SEED = 0
TRIALS = 4
LEARNING_RATES = (5e-4, 1e-3)
TASKS = {"sst2": 400, "cola": 1000}  # rows: half of them are carved
STRENGTHS = (0.02, 0.04, 0.08)  # delta_ratio: the size of a perturbation as a share of what it is added to
WEIGHTS = (1, 4)
# The settings that give delta_ratio 1. They are proportional to it. Measured with strength.yml on SST-2:
# radius 0.01 of vat and tat gave 0.0471, magnitude 0.1 of rapt 0.0461, radius 0.3 of freelb (steps of 0.1) 0.0550.
PER_RATIO = {
    "vat": {"adversary.radius": 0.01 / 0.0471},
    "tat": {"adversary.radius": 0.01 / 0.0471},
    "rapt": {"adversary.magnitude": 0.1 / 0.0461},
    "freelb": {
        "adversary.radius": 0.3 / 0.0550,
        "adversary.step_size": 0.1 / 0.0550,
        "adversary.init_magnitude": 0.1 / 0.0550,
    },
}
NORMALIZED = {"adversary.projection": "normalize", "adversary.step_size": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"adversary.mode": "none"},
    "rdrop": {"adversary.mode": "rdrop"},
    "vat": {"adversary.mode": "vat", "adversary.radius": 1e-3, **NORMALIZED},
    "tat": {"adversary.mode": "tat", "adversary.radius": 1e-3, **NORMALIZED},
    "freelb": {"adversary": "preset:freelb/bert_base"},
    "rapt": {"adversary": "preset:rapt/paper"},
    "r3f_paper": {"adversary": "preset:r3f/paper"},
    "rapt_embeddings": {"adversary": "preset:rapt/embeddings"},
    "vat_paper": {"adversary": "preset:vat/paper"},
}


def choices(method: str) -> list[dict[str, Any]]:
    """All settings, apart from the learning rate, that a trial of this method may have."""
    if method == "none":
        return [{"encoder.dropout": dropout} for dropout in (0.1, 0.2)]
    if method == "rdrop":
        return [{"adversary.weight": weight} for weight in WEIGHTS]
    if method not in PER_RATIO:
        return [{}]
    strengths = (*STRENGTHS, 0.3) if method == "rapt" else STRENGTHS
    found = []
    for strength in strengths:
        scaled = {key: float(f"{strength * value:.3g}") for key, value in PER_RATIO[method].items()}
        found += [scaled] if method == "freelb" else [{**scaled, "adversary.weight": weight} for weight in WEIGHTS]
    return found


def draw(method: str) -> list[dict[str, Any]]:
    """The settings of the trials of a method, without the learning rate, all different where there are enough.

    Trials with the same learning rate never have the same settings.
    """
    possible = choices(method)
    if len(possible) >= TRIALS:
        return random.Random(f"{SEED} {method}").sample(possible, TRIALS)
    return [possible[number // len(LEARNING_RATES) % len(possible)] for number in range(TRIALS)]


def trials(method: str) -> Iterator[dict[str, Any]]:
    rates = [LEARNING_RATES[number % len(LEARNING_RATES)] for number in range(TRIALS)]
    for rate, settings in zip(rates, draw(method), strict=True):
        yield {"optimizer.lr": rate, **settings}


def shown(tasks: Iterable[str]) -> dict[str, Any]:
    """The table. Only what is held out is tested, as README.md says; dev stands beside it."""
    columns = [f"{task}/{split}" for task in tasks for split in ("held_out", "dev")]
    return {"rows": "method", "columns": columns, "reference": "none", "tested": "held_out"}


def study() -> dict[str, Any]:
    cells: list[dict[str, Any]] = [
        {"when": {"task": task}, "set": {"data.max_rows": rows}} for task, rows in TASKS.items()
    ]
    leave_out = []
    for method in METHODS:
        for number, settings in enumerate(trials(method), start=1):
            if choices(method) == [{}] and number > len(LEARNING_RATES):
                leave_out.append({"method": method, "trial": number})
            else:
                cells.append({"when": {"method": method, "trial": number}, "set": settings})
    return {
        "title": "When does each mode help? A few hundred rows, 12 epochs",
        "base": "experiments/evidence/run.yml",
        "settings": {"data.sample": True, "data.held_out": 2000},
        "axes": {"task": [*TASKS], "method": METHODS, "trial": {str(number): {} for number in range(1, TRIALS + 1)}},
        "cells": cells,
        "leave_out": leave_out,
        "select": {
            "over": ["trial"],
            "split": "carved",
            "share": 0.5,
            "seeds": [1],
            "settings": {"data.held_out": None},
        },
        "seeds": list(range(11, 19)),
        "show": shown(TASKS),
        "profiles": {
            task: {
                "axes": {"task": [task]},
                "show": shown([task]),
                "cells": [c for c in cells if "task" not in c["when"] or c["when"]["task"] == task],
            }
            for task in TASKS
        },
    }


if __name__ == "__main__":
    print("# Written by: python experiments/evidence/trials.py > experiments/evidence/core.yml")
    content = json.loads(json.dumps(study()))  # without shared objects, which YAML would write as aliases
    yaml.safe_dump(content, sys.stdout, sort_keys=False, width=120)
