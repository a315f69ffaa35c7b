"""Measures the cost of the adversarial modes: the time of a training step as a multiple of the time of a plain step.

All modes take turns in every round, so that a machine that is slow for a while slows all modes down alike.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.errors import UserError, did_you_mean
from data_utils.text_table import table
from mt_dnn.adversarial.modes import ADVERSARIES, build_adversaries
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.bench.arithmetic import full_blocks
from mt_dnn.bench.checkout import Checkout
from mt_dnn.bench.pictures import Bar, check_picture, write_bars
from mt_dnn.bench.synthetic import run_file
from mt_dnn.bench.workload import Spent, Workload, build_workload, machine
from mt_dnn.runs.config_file import load_config
from mt_dnn.training.step import Stepper

VARIANTS: dict[str, dict[str, Any]] = {  # measured beside every mode with its default settings
    "tat_reuse": {"mode": "tat", "reuse_clean_pass": True},
    "rapt_no_share": {"mode": "rapt", "share_prefix": False},
}
COLUMNS = (
    *("multiple", "lowest", "highest", "floor", "excess", "cpu_multiple", "cpu_excess"),
    *("step_over_before", "before_lowest", "before_highest", "cpu_over_before"),
)
LIMIT = 0.08  # a mode's step may cost so much more than the floor of its arithmetic
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
    before: Path | None,
    updates: int,
    rounds: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Prints the cost of each mode as a table or as JSON.

    ``before``: a checkout of another commit, whose steps are measured in turn with ours.
    ``picture``: also draws the multiples and their floors into this SVG file.
    """
    check_picture(picture)
    with run_file(path, shape=shape, lengths=lengths) as found:
        work = build_workload(load_config(found, overrides), "bench adversary")
        chosen = choose_cases(modes, work.model.encoder.num_layers)
        with Checkout(before, found, overrides, work) if before else nullcontext() as other:
            result = measure_adversaries(work, chosen, other, updates=updates, rounds=rounds)
    notes = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    if picture is not None:
        bars = [Bar(name, figures["multiple"], figures["floor"]) for name, figures in result["modes"].items()]
        write_bars(picture, "A step as a multiple of a plain step; line: floor of its arithmetic", bars, notes)
    if as_json:
        print(json.dumps(result))
        return
    columns = [key for key in COLUMNS if any(key in figures for figures in result["modes"].values())]
    rows = [(name, *(str(figures.get(key, "-")) for key in columns)) for name, figures in result["modes"].items()]
    print(table(("mode", *columns), rows))
    print(f"excess: above the floor, at most {LIMIT}; step_over_before: seconds of a step over those of --before")
    print(notes)


def choose_cases(modes: Sequence[str] | None, layers: int) -> dict[str, dict[str, Any]]:
    """The settings of the cases with these names, by name. None: all cases. The plain step is always among them.

    Raises:
        UserError: an unknown name.
    """
    known = cases(layers)
    for mode in modes or ():
        if mode not in known:
            hint = did_you_mean(mode, known) or f" (known: {', '.join(known)})"
            raise UserError(f"--modes: no mode '{mode}'{hint}")
    return {name: known[name] for name in known if modes is None or name in modes or name == "none"}


def build_steppers(work: Workload, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Stepper]:
    """One stepper for each of the settings, by name. All share one optimizer."""
    tasks, steppers = {work.task.name: work.task}, dict[str, Stepper]()
    plain = work.stepper(NoneOptions())
    for name, settings in chosen.items():
        options = ADVERSARIES[settings["mode"]].options_type.model_validate(settings)
        steppers[name] = replace(plain, adversaries=build_adversaries(options, tasks))
    return steppers


def measure_adversaries(
    work: Workload, chosen: Mapping[str, Mapping[str, Any]], other: Checkout | None, *, updates: int, rounds: int
) -> dict[str, Any]:
    """Measures the cost of each mode as a multiple of the plain step.

    Args:
        chosen: the settings of each mode by name, with ``none`` among them.
        other: another commit, whose step in the same mode and on the same batches is measured just before or after.
        updates: updates of each mode in a round.
        rounds: rounds that count. One more round warms up.

    Returns:
        ``modes``: by name, the median, lowest and highest multiple over the rounds, the least multiple that arithmetic
        allows (``floor``), how much the median is above it (``excess``), both for seconds of the processor too, and
        with ``other`` our seconds over those of the other commit. ``machine``: device and versions.
    """
    steppers, names = build_steppers(work, chosen), list(chosen)
    ours: dict[str, list[Spent]] = {name: [] for name in names}
    theirs: dict[str, list[Spent | None]] = {name: [] for name in names}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", unit="round")):
        shift = number % len(names)  # so that no mode is always the first of a round
        for name in names[shift:] + names[:shift]:
            for turn in (number, number + 1):  # the side that begins changes too
                if turn % 2 == 0:
                    ours[name].append(work.spent(steppers[name], chunk))
                elif other is not None:
                    theirs[name].append(other.spent(name, chosen[name], chunk))
    blocks = full_blocks(work, work.batches[0])
    figures = {}
    for name in names:
        cost_floor = steppers[name].adversaries[work.task.name].cost_floor(blocks)
        figures[name] = {
            **compared(ours[name][1:], ours["none"][1:], cost_floor),  # the first round warms up
            **over_before(ours[name][1:], theirs[name][1:]),
        }
    return {
        "modes": figures,
        "limit": LIMIT,
        "batch_size": work.config.train.batch_size,
        "machine": machine(work.device),
    }


def compared(spent: Sequence[Spent], plain: Sequence[Spent], cost_floor: float) -> dict[str, float]:
    """The cost of a mode beside the plain step, from what both have taken in each round."""
    multiples = [ours.wall / none.wall for ours, none in zip(spent, plain, strict=True)]
    of_cpu = statistics.median(ours.cpu / none.cpu for ours, none in zip(spent, plain, strict=True))
    return {
        "multiple": round(statistics.median(multiples), 3),
        "lowest": round(min(multiples), 3),
        "highest": round(max(multiples), 3),
        "floor": round(cost_floor, 3),
        "excess": round(statistics.median(multiples) / cost_floor - 1, 3),
        "cpu_multiple": round(of_cpu, 3),
        "cpu_excess": round(of_cpu / cost_floor - 1, 3),
    }


def over_before(spent: Sequence[Spent], before: Sequence[Spent | None]) -> dict[str, float]:
    """Our seconds over those of another commit. Empty if that commit was not measured or does not know the mode."""
    pairs = [(ours, theirs) for ours, theirs in zip(spent, before, strict=False) if theirs is not None]
    if not pairs:
        return {}
    ratios = [ours.wall / theirs.wall for ours, theirs in pairs]
    return {
        "step_over_before": round(statistics.median(ratios), 3),
        "before_lowest": round(min(ratios), 3),
        "before_highest": round(max(ratios), 3),
        "cpu_over_before": round(statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs), 3),
    }
