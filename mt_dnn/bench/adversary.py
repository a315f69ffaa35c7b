"""Measures the cost of the adversarial modes: the time of a training step as a multiple of the time of a plain step.

All modes take turns in every round, so that a machine that is slow for a while slows all modes down alike.
"""

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
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.workload import build_workload, machine
from mt_dnn.runs.config import RunConfig

VARIANTS: dict[str, dict[str, Any]] = {  # measured beside every mode with its default settings
    "tat_reuse": {"mode": "tat", "reuse_clean_pass": True},
    "rapt_no_share": {"mode": "rapt", "share_prefix": False},
}
UNMEASURED = ("r4f",)  # it changes the head, which all modes share here; it costs as much as r3f


def cases(layers: int) -> dict[str, dict[str, Any]]:
    """The settings of all measured cases, by name. ``layers``: how many blocks the encoder has."""
    modes: dict[str, dict[str, Any]] = {mode: {"mode": mode} for mode in ADVERSARIES if mode not in UNMEASURED}
    max_layer = {"max_layer": min(3, layers)}  # the default of RAPT, in an encoder that may have fewer blocks
    return {
        name: {**settings, **max_layer} if settings["mode"] == "rapt" else settings
        for name, settings in {**modes, **VARIANTS}.items()
    }


def adversary_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None,
    lengths: str | None,
    modes: Sequence[str] | None,
    updates: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Prints the cost of each mode as a table or as JSON."""
    with run_config(path, overrides, shape=shape, lengths=lengths) as config:
        result = measure_adversaries(config, modes=modes, updates=updates, rounds=rounds)
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
    """Measures the cost of each mode as a multiple of the plain step.

    Args:
        modes: names among ``cases``. None: all. The plain step is always measured.
        updates: updates of each mode in a round.
        rounds: rounds that count. One more round warms up.

    Returns:
        ``modes``: by name, the median, lowest and highest multiple over the rounds, and the least multiple that
        arithmetic allows (``floor``). ``machine``: device and versions.

    Raises:
        UserError: an unknown mode, or a configuration that does not choose one task.
    """
    work = build_workload(config, "bench adversary")
    layers = work.model.encoder.num_layers
    known = cases(layers)
    for mode in modes or ():
        if mode not in known:
            hint = did_you_mean(mode, known) or f" (known: {', '.join(known)})"
            raise UserError(f"--modes: no mode '{mode}'{hint}")
    chosen = [name for name in known if modes is None or name in modes or name == "none"]
    steppers = {
        name: work.stepper(ADVERSARIES[known[name]["mode"]].options_type.model_validate(known[name])) for name in chosen
    }
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", unit="round")):
        shift = number % len(chosen)  # so that no mode is always the first of a round
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
