"""Cost of the adversarial modes: seconds of a training step as multiples of the plain one, rounds interleaved."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.errors import UserError, did_you_mean
from data_utils.text_table import table
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.bench.workload import build_workload, machine
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config

VARIANTS: dict[str, dict[str, Any]] = {  # what else is worth measuring, beside every mode with its default settings
    "tat_reuse": {"mode": "tat", "reuse_clean_pass": True},
    "rapt_no_share": {"mode": "rapt", "share_prefix": False},
}


UNMEASURED = ("r4f",)  # needs a head of its own; costs what r3f does


def cases(layers: int) -> dict[str, dict[str, Any]]:
    """What is measured, by name; RAPT perturbs no block that the encoder lacks."""
    modes: dict[str, dict[str, Any]] = {mode: {"mode": mode} for mode in ADVERSARIES if mode not in UNMEASURED}
    found = {**modes, **VARIANTS}
    return {name: {**own, "max_layer": min(3, layers)} if own["mode"] == "rapt" else own for name, own in found.items()}


def adversary_command(
    path: Path, overrides: Sequence[str], *, modes: Sequence[str] | None, updates: int, rounds: int, as_json: bool
) -> None:
    """Prints multiples of the plain step, medians over the rounds."""
    result = measure_adversaries(load_config(path, overrides), modes=modes, updates=updates, rounds=rounds)
    if as_json:
        flat = {name: figures["multiple"] for name, figures in result["modes"].items()}
        print(json.dumps({**flat, "machine": result["machine"]}))
    else:
        rows = [
            (name, *(f"{figures[key]:.2f}" for key in ("multiple", "lowest", "highest", "floor")))
            for name, figures in result["modes"].items()
        ]
        print(table(("mode", "multiple", "lowest", "highest", "floor"), rows))
        print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))


def measure_adversaries(config: RunConfig, *, modes: Sequence[str] | None, updates: int, rounds: int) -> dict[str, Any]:
    """Median, lowest and highest multiple of each mode over the rounds, beside its floor."""
    work = build_workload(config, "bench adversary")
    layers = work.model.encoder.num_layers
    known = cases(layers)
    for mode in modes or ():
        if mode not in known:
            raise UserError(f"--modes {mode}: known: {', '.join(known)}{did_you_mean(mode, known)}")
    chosen = [name for name in known if modes is None or name in modes or name == "none"]
    steppers = {
        name: work.stepper(ADVERSARIES[known[name]["mode"]].options_type.model_validate(known[name])) for name in chosen
    }
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", unit="round")):
        shift = number % len(chosen)  # no mode always runs first
        order = chosen[shift:] + chosen[:shift]
        seconds = {name: work.seconds(steppers[name], chunk) for name in order}
        if number > 0:  # the first round warms up
            for name in chosen:
                ratios[name].append(seconds[name] / seconds["none"])
    figures = {
        name: {
            "multiple": round(statistics.median(values), 3),
            "lowest": round(min(values), 3),
            "highest": round(max(values), 3),
            "floor": round(steppers[name].adversaries[work.task.name].cost_floor(layers), 3),
        }
        for name, values in ratios.items()
    }
    return {"modes": figures, "machine": machine(work.device)}
