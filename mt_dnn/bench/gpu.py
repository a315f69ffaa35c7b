"""Speed of our step and of Trainer's in many settings: encoders, batch sizes, number types and adversarial modes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from data_utils.errors import UserError, did_you_mean
from data_utils.text_table import table
from mt_dnn.bench.adversary import build_steppers, choose_cases
from mt_dnn.bench.arithmetic import full_blocks
from mt_dnn.bench.lengths import PERCENTILES
from mt_dnn.bench.memory import OURS, PEER, free_memory
from mt_dnn.bench.pictures import Bar, check_picture, write_bars
from mt_dnn.bench.synthetic import ROWS, SHAPES, run_config
from mt_dnn.bench.throughput import PLAIN, WARM_UP, count_step, floor, measure, median, without_adversary
from mt_dnn.bench.workload import Spent, Workload, build_workload, machine
from mt_dnn.runs.build import choose_device
from mt_dnn.training.precision import AUTOCAST_TYPES
from mt_dnn.training.step import Stepper

NO_MEMORY = "does not fit the memory of the GPU"


class Extent(NamedTuple):
    """What is measured where the user names nothing else. ``modes``: None means all."""

    shapes: Sequence[str]
    batches: Sequence[str]
    modes: Sequence[str] | None
    updates: int
    rounds: int


COMPLETE = Extent(("base", "xlmr-large"), ("32", "128", "512"), None, updates=8, rounds=3)
TRIAL = Extent(("minilm",), ("4",), ("none", "vat"), updates=1, rounds=1)
COLUMNS = (
    *("shape", "batch_size", "precision", "mode", "examples_per_s", "tokens_per_s", "ms_per_step", "ratio"),
    *("multiple", "floor", "share_of_floor", "operations", "waits", "peak_mb", "error"),
)


def gpu_command(
    overrides: Sequence[str],
    *,
    shapes: Sequence[str] | None,
    batches: Sequence[str] | None,
    precisions: Sequence[str],
    modes: Sequence[str] | None,
    lengths: str,
    device: str | None,
    peer: bool,
    quick: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Prints a record for each shape, batch size, precision and mode as soon as it is measured.

    With ``as_json`` each record is a line of JSON. A last line says on which machine. Otherwise a table comes at the
    end, and what is done is said on stderr. ``picture``: also draws the examples per second into this SVG file.

    Raises:
        UserError: there is no GPU and ``device`` does not name another, or what ``check_lists`` raises.
    """
    if device is None and not torch.cuda.is_available():
        raise UserError("bench gpu: this machine has no GPU; --device cpu tries the command without one")
    check_picture(picture)
    extent = TRIAL if quick else COMPLETE
    shapes, batches, names = shapes or extent.shapes, batches or extent.batches, modes or extent.modes
    check_lists(shapes=shapes, batches=batches, precisions=precisions, modes=names, lengths=lengths)
    chosen, records = choose_device(device or "cuda"), []
    for shape in shapes:
        for batch in batches:
            for precision in precisions:
                changes = [*overrides, f"train.batch_size={batch}", f"train.precision={precision}", f"device={chosen}"]
                for record in measure_setting(shape, lengths, changes, extent._replace(modes=names), peer=peer):
                    records.append(record)
                    print(json.dumps(record), file=sys.stdout if as_json else sys.stderr, flush=True)
    notes = {"lengths": lengths, "quick": quick, **machine(chosen)}
    if picture is not None:
        settings = ("shape", "batch_size", "precision", "mode")
        measured = [record for record in records if "error" not in record]
        bars = [Bar(" ".join(str(record[key]) for key in settings), record["examples_per_s"]) for record in measured]
        write_bars(picture, "Training examples per second", bars, ", ".join(f"{k} {v}" for k, v in notes.items()))
    if as_json:
        print(json.dumps({"machine": notes}))
        return
    print(table(COLUMNS, [tuple(str(record.get(key, "-")) for key in COLUMNS) for record in records]))
    print(", ".join(f"{key} {value}" for key, value in notes.items()))


def check_lists(
    *,
    shapes: Sequence[str],
    batches: Sequence[str],
    precisions: Sequence[str],
    modes: Sequence[str] | None,
    lengths: str,
) -> None:
    """Checks everything before the first measurement, because a later one may come minutes after it.

    Raises:
        UserError: an unknown name, or a batch that is no number or larger than the made-up rows.
    """
    names: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "--shapes": (shapes, [*SHAPES]),
        "--precisions": (precisions, [*AUTOCAST_TYPES]),
        "--lengths": ([lengths], [*PERCENTILES]),
    }
    for option, (given, known) in names.items():
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise UserError(f"{option}: '{name}' is unknown{hint} (known: {', '.join(known)})")
    for batch in batches:
        if not batch.isdecimal() or not 0 < int(batch) <= ROWS:
            raise UserError(f"--batches: '{batch}' is no number of examples from 1 to {ROWS}; write for example 32,128")
    choose_cases(modes, min(SHAPES[shape]["num_hidden_layers"] for shape in shapes))


def measure_setting(
    shape: str, lengths: str, overrides: Sequence[str], extent: Extent, *, peer: bool
) -> Iterator[dict[str, Any]]:
    """Yields the records of one setting: with ``peer`` the plain step beside Trainer's, then our step in each mode.

    What does not fit the memory of the GPU yields a record with ``error``.
    """
    updates, rounds = extent.updates, extent.rounds
    with run_config(None, [*overrides, *PLAIN], shape=shape, lengths=lengths) as asked:
        config = without_adversary(asked)
        setting = {"shape": shape, "batch_size": config.train.batch_size, "precision": config.train.precision}
        if peer:
            try:
                result = measure(config, updates=updates, rounds=rounds)
                for side in (OURS, PEER):
                    figures = {key.removeprefix(f"{side}_"): v for key, v in result.items() if key.startswith(side)}
                    figures["share_of_floor"] = round(result["floor_ms_per_step"] / figures["ms_per_step"], 3)
                    yield {**setting, "mode": f"none, {side}", **figures, "ratio": result["ratio"]}
            except torch.OutOfMemoryError:
                yield {**setting, "mode": "none, ours and peer", "error": NO_MEMORY}
        free_memory()
        try:
            work = build_workload(config, "bench gpu")
        except torch.OutOfMemoryError:
            yield {**setting, "mode": "all", "error": NO_MEMORY}
            return
        for mode, figures in measure_modes(work, extent.modes, updates=updates, rounds=rounds):
            yield {**setting, "mode": mode, **figures}


def measure_modes(
    work: Workload, modes: Sequence[str] | None, *, updates: int, rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the figures of each mode. All modes take turns in every round on the same batches."""
    layers, chunk = work.model.encoder.num_layers, work.chunk(updates)
    steppers, figures = build_steppers(work, choose_cases(modes, layers)), dict[str, dict[str, Any]]()
    for name, stepper in [*steppers.items()]:
        try:
            figures[name] = warmed_up(work, stepper, chunk)
        except torch.OutOfMemoryError:
            yield name, {"error": NO_MEMORY}
            work.model.zero_grad(set_to_none=True)
            free_memory()
    times = {name: list[Spent]() for name in figures}
    for number in tqdm(range(rounds), desc="rounds of modes", unit="round"):
        names = [*times]
        for name in names[number % len(names) :] + names[: number % len(names)] if names else []:
            try:
                times[name].append(work.spent(steppers[name], chunk))
            except torch.OutOfMemoryError:
                del times[name]
                yield name, {"error": NO_MEMORY}
                work.model.zero_grad(set_to_none=True)
                free_memory()
    examples, tokens = sum(map(len, chunk)), int(sum(work.split.lengths[rows].sum() for rows in chunk))
    for name in times:
        step = Spent(*(seconds / updates for seconds in median(times[name])))
        bound = steppers[name].adversaries[work.task.name].cost_floor(full_blocks(work, chunk[0]))
        plain = [mode.wall / none.wall for mode, none in zip(times[name], times.get("none", []), strict=False)]
        yield (
            name,
            {
                "examples_per_s": round(examples / updates / step.wall, 2),
                "tokens_per_s": round(tokens / updates / step.wall),
                "ms_per_step": round(1000 * step.wall, 2),
                **({"multiple": round(statistics.median(plain), 3)} if plain else {}),
                "floor": round(bound, 3),
                "share_of_floor": round(bound * floor(work, chunk, step)["share_of_floor"], 3),
                **figures[name],
            },
        )


def warmed_up(work: Workload, stepper: Stepper, chunk: Sequence[Any]) -> dict[str, Any]:
    """Runs a mode twice over the chunk. Returns the operations of a step, and on a GPU the most memory in use."""
    if work.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(work.device)
    for _ in range(WARM_UP):
        work.seconds(stepper, chunk)
    peak = {"peak_mb": round(torch.cuda.max_memory_allocated(work.device) / 1e6)} if work.device.type == "cuda" else {}
    return {**peak, **count_step(work, stepper, chunk[0])}
