"""Measures what each fast path saves: the time of a training step with it, without it, and without all of them.

All cases take turns in every round on one model and the same batches.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.text_table import table
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.workload import Workload, build_workload, machine
from mt_dnn.runs.config import FAST_PATHS, RunConfig
from mt_dnn.training.step import Stepper

ALL, NONE = "all", "none"


def fast_paths_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None,
    lengths: str | None,
    updates: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Prints the time of a step in each case, as a share of the step without fast paths."""
    with run_config(path, overrides, shape=shape, lengths=lengths) as config:
        result = measure_fast_paths(config, updates=updates, rounds=rounds)
    if as_json:
        print(json.dumps(result))
        return
    columns = ("share", "lowest", "highest", "ms_per_step")
    rows = [(name, *(str(figures[key]) for key in columns)) for name, figures in result["cases"].items()]
    print(table(("fast paths", *columns), rows))
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))


def measure_fast_paths(config: RunConfig, *, updates: int, rounds: int) -> dict[str, Any]:
    """Measures a step with no fast path, with each of them alone, with all but each of them, and with all.

    Args:
        updates: updates of each case in a round.
        rounds: rounds that count. One more round warms up.

    Returns:
        ``cases``: by name, the median, lowest and highest share of the step without fast paths over the rounds, and the
        median time of a step. ``machine``: device and versions.

    Raises:
        UserError: the configuration does not choose one task.
    """
    work = build_workload(config, "bench fast-paths")
    every: set[str] = {*FAST_PATHS}
    cases: dict[str, set[str]] = {NONE: set()}
    cases |= {f"only {name}": {name} for name in FAST_PATHS}
    cases |= {f"without {name}": every - {name} for name in FAST_PATHS}
    cases[ALL] = every
    stepper = work.stepper(config.adversary)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number, chunk in enumerate(tqdm(work.chunks(updates, rounds), desc="rounds", unit="round")):
        shift = number % len(cases)  # so that no case is always the first of a round
        names = [*cases]
        for name in names[shift:] + names[:shift]:
            with only(work, stepper, cases[name]) as chosen:
                spent = work.seconds(chosen, chunk)
            if number > 0:  # the first round warms up
                seconds[name].append(spent)
    figures = {}
    for name, values in seconds.items():
        shares = [value / base for value, base in zip(values, seconds[NONE], strict=True)]
        figures[name] = {
            "share": round(statistics.median(shares), 3),
            "lowest": round(min(shares), 3),
            "highest": round(max(shares), 3),
            "ms_per_step": round(1000 * statistics.median(values) / updates, 1),
        }
    return {"cases": figures, "batch_size": config.train.batch_size, "machine": machine(work.device)}


@contextmanager
def only(work: Workload, stepper: Stepper, paths: set[str]) -> Iterator[Stepper]:
    """Turns these fast paths on and the others off. Gives the stepper to use in the context."""
    encoder = work.model.encoder
    attributes = {"attention": "joins_sequences", "dropout": "draws_masks", "last_block": "shortens_last_block"}
    before = {attribute: getattr(encoder, attribute) for attribute in attributes.values()}
    for path, attribute in attributes.items():
        setattr(encoder, attribute, path in paths)
    yield replace(stepper, word_rows="word_gradients" in paths)
    for attribute, value in before.items():
        setattr(encoder, attribute, value)
