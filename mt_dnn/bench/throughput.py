"""Compares our speed with plain Hugging Face Trainer, on the same rows in the same batches.

Both take turns in one process. Each round has the same batches, and the side that begins changes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.text_table import table
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.batches.collate import collate
from mt_dnn.bench.arithmetic import matrix_rate, step_flops
from mt_dnn.bench.counts import Counted
from mt_dnn.bench.memory import OURS, PEER, peak_megabytes
from mt_dnn.bench.peer import NAME, HFTrainer, check_peer
from mt_dnn.bench.pictures import Bar, check_picture, write_bars
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.workload import Spent, Workload, build_rows, machine, with_model
from mt_dnn.runs.config import RunConfig
from mt_dnn.training.step import Stepper

PEERS = ("hf-trainer",)
WARM_UP = 2  # rounds that do not count
# What Trainer does too.
PLAIN = ("optimizer.name=adamw", "optimizer.lookahead.enabled=false", "train.accumulate=1")


def without_adversary(config: RunConfig) -> RunConfig:
    """The configuration with plain training, whatever mode or preset it names."""
    return config.model_copy(update={"adversary": NoneOptions()})


def throughput_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None,
    lengths: str | None,
    peer: str,
    updates: int,
    rounds: int,
    memory: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Prints the examples per second of our step and of the peer, their ratio, and what bounds our step.

    ``picture``: also draws the examples per second into this SVG file.

    Raises:
        UserError: an unknown peer, or what ``measure`` raises.
    """
    if peer not in PEERS:
        raise UserError(f"--peer: no peer '{peer}' (known: {', '.join(PEERS)})")
    check_picture(picture)
    with run_config(path, [*overrides, *PLAIN], shape=shape, lengths=lengths) as config:
        result = measure(config, updates=updates, rounds=rounds, memory=memory)
    if picture is not None:
        bars = [Bar("this toolkit", result["ours_examples_per_s"]), Bar("Trainer", result["peer_examples_per_s"])]
        write_bars(picture, "Training examples per second", bars, notes(result))
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def measure(config: RunConfig, *, updates: int, rounds: int, memory: bool = True) -> dict[str, Any]:
    """Measures our plain step and Trainer's on the same batches. Times are medians over rounds.

    Args:
        updates: updates of each side in a round.
        rounds: rounds that count. Two more rounds warm up.
        memory: measure the peak memory of both sides too, in two processes of their own.

    Raises:
        UserError: the configuration does not choose one classification or regression task, or Trainer cannot run here.
    """
    config = without_adversary(config)
    rows = build_rows(config, "bench throughput")
    check_peer(rows, "bench throughput")
    chunk = rows.chunk(updates)
    peaks = {side: peak_megabytes(side, config, updates) if memory else None for side in (OURS, PEER)}
    work = with_model(rows)
    stepper, trainer = work.stepper(config.adversary), HFTrainer(rows, work.model.encoder.model)
    ours, theirs = in_turn(work, stepper, trainer, chunk, rounds)
    counts = {OURS: count_step(work, stepper, chunk[0]), PEER: trainer.counted.figures}
    examples, tokens = sum(map(len, chunk)), int(sum(rows.split.lengths[part].sum() for part in chunk))
    padded = sum(len(part) * int(rows.split.lengths[part].max()) for part in chunk)
    ratios = [their.wall / our.wall for our, their in zip(ours, theirs, strict=True)]
    sides = {OURS: ours, PEER: theirs}
    spent = {side: median(times) for side, times in sides.items()}
    return {
        **{f"{side}_examples_per_s": round(examples / spent[side].wall, 2) for side in sides},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "cpu_ratio": round(statistics.median(t.cpu / o.cpu for o, t in zip(ours, theirs, strict=True)), 3),
        **{f"{side}_tokens_per_s": round(tokens / spent[side].wall) for side in sides},
        **{f"{side}_ms_per_step": round(1000 * spent[side].wall / updates, 2) for side in sides},
        **{f"{side}_cpu_ms_per_step": round(1000 * spent[side].cpu / updates, 2) for side in sides},
        **floor(work, chunk, Spent(*(seconds / updates for seconds in spent[OURS]))),
        **{f"{side}_peak_mb": peak for side, peak in peaks.items() if peak is not None},
        **{f"{side}_{name}": counts[side][name] for name in ("operations", "waits") for side in sides},
        "peer": NAME,
        "batch_size": config.train.batch_size,
        "precision": config.train.precision,
        "padding_share": round(1 - tokens / padded, 3),
        **machine(work.device),
    }


def notes(result: Mapping[str, Any]) -> str:
    """The settings and versions of a measurement, for below a picture."""
    keys = ("batch_size", "precision", "device", "threads", "torch", "transformers")
    return ", ".join(f"{key} {result[key]}" for key in keys if key in result)


def in_turn(
    work: Workload, stepper: Stepper, trainer: HFTrainer, chunk: Sequence[Any], rounds: int
) -> tuple[list[Spent], list[Spent]]:
    """What each round took us and Trainer, without the rounds that warm up. We begin in every second round."""
    count, ours = rounds + WARM_UP, list[Spent]()
    progress = iter(tqdm(range(count), desc="rounds", unit="round"))

    def our_turn(number: int) -> None:
        """Makes our rounds that are due before Trainer's round of this number, or after its last one."""
        while len(ours) < min(count, number + 1 - number % 2):
            next(progress)
            ours.append(work.spent(stepper, chunk))

    theirs = trainer.train(chunk, count, our_turn)
    next(progress, None)  # ends the bar
    return ours[WARM_UP:], theirs[WARM_UP:]


def count_step(work: Workload, stepper: Stepper, rows: Any) -> dict[str, int]:
    """The operations of one of our steps, without collation."""
    batch = collate(work.split, rows, task=work.task.name).to(work.device)
    with Counted() as counted:
        stepper([batch])
    return counted.figures


def floor(work: Workload, chunk: Sequence[Any], step: Spent) -> dict[str, float]:
    """What the arithmetic of a plain step takes on average over the chunk, and the share of the step that it is.

    ``step``: the seconds of a step. ``cpu_times_floor`` compares the seconds of the processor, which a busy machine
    disturbs less; a GPU has none.
    """
    tokens = sum(int(work.split.lengths[rows].sum()) for rows in chunk) // len(chunk)
    rate, flops = matrix_rate(work, tokens), sum(step_flops(work, rows) for rows in chunk) / len(chunk)
    figures = {
        "gflop_per_step": flops / 1e9,
        "matrix_gflop_per_s": rate.wall / 1e9,
        "floor_ms_per_step": 1000 * flops / rate.wall,
        "share_of_floor": flops / rate.wall / step.wall,
        "times_floor": step.wall * rate.wall / flops,
    }
    if work.device.type == "cpu":
        figures["cpu_times_floor"] = step.cpu * rate.cpu / flops
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def median(rounds: Sequence[Spent]) -> Spent:
    """The median of both clocks."""
    return Spent(statistics.median(spent.wall for spent in rounds), statistics.median(spent.cpu for spent in rounds))
