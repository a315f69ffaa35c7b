"""How long a run takes until its first update, beside a bare script that makes one update.

Both are fresh processes. They take turns.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.text_table import table
from mt_dnn.bench.synthetic import run_file
from mt_dnn.bench.workload import BenchRows, Spent, build_rows, machine
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import dump_config, load_config

POLL_S = 0.005
# What a user would write without this toolkit. Arguments: the encoder, examples, tokens of each, classes.
BARE = """
import sys, torch, transformers
name, examples, tokens, classes = sys.argv[1], *map(int, sys.argv[2:])
model = transformers.AutoModelForSequenceClassification.from_pretrained(name, num_labels=classes).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
words = torch.randint(5, 100, (examples, tokens))
labels = torch.zeros(examples, dtype=torch.long)
loss = model(input_ids=words, attention_mask=torch.ones_like(words), labels=labels).loss
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
print(loss.item(), flush=True)
"""


def start_command(
    path: Path | None,
    overrides: Sequence[str],
    *,
    shape: str | None,
    lengths: str | None,
    rounds: int,
    as_json: bool,
) -> None:
    """Prints the seconds of both until the first update is done, and how many times the script's ours are."""
    with run_file(path, shape=shape, lengths=lengths) as found:
        result = measure_start(load_config(found, overrides), rounds=rounds)
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def measure_start(config: RunConfig, *, rounds: int) -> dict[str, Any]:
    """Measures ``mt-dnn train`` on prepared rows and the bare script, both on the CPU. Returns medians over rounds.

    The script reads as many tokens as a batch of the run has on average, without padding. An encoder with random
    weights is written to a folder first, so that both load it. One more round warms up the cache of the disk.

    Raises:
        UserError: the configuration does not choose one classification or regression task, or a process fails.
    """
    if config.encoder.blocks is not None:
        raise UserError("bench start: the script loads all blocks; leave encoder.blocks out")
    rows = build_rows(config, "bench start")  # prepares the rows
    if rows.split.groups is not None or rows.split.decisions is not None:
        raise UserError("bench start: the script only classifies; choose a classification or regression task")
    with TemporaryDirectory(prefix="mt-dnn-start-") as name:
        folder = Path(name)
        encoder = write_encoder(config, rows, folder / "encoder")
        tokens = round(float(rows.split.lengths.mean()))
        bare = [sys.executable, "-c", BARE, encoder, config.train.batch_size, tokens, max(2, rows.task.n_class)]
        sides: dict[str, Callable[[int], Spent]] = {
            "train": lambda number: train_once(config, encoder, folder / f"run{number}"),
            "script": lambda number: until(
                [*map(str, bare)], lambda process: process.stdout.readline() != b"", "the bare script"
            ),
        }
        spent: dict[str, list[Spent]] = {side: [] for side in sides}
        for number in tqdm(range(rounds + 1), desc="rounds", unit="round"):
            for side in sorted(sides, reverse=number % 2 == 0):  # the side that begins changes
                spent[side].append(sides[side](number))
    counted = {side: values[1:] for side, values in spent.items()}
    pairs = list(zip(counted["train"], counted["script"], strict=True))
    ratios = [train.wall / script.wall for train, script in pairs]
    return {
        **{
            f"{side}_s": round(statistics.median(value.wall for value in values), 2) for side, values in counted.items()
        },
        "times_script": round(statistics.median(ratios), 3),
        "times_script_min": round(min(ratios), 3),
        "times_script_max": round(max(ratios), 3),
        **{
            f"{side}_cpu_s": round(statistics.median(value.cpu for value in values), 2)
            for side, values in counted.items()
        },
        "cpu_times_script": round(statistics.median(train.cpu / script.cpu for train, script in pairs), 3),
        "batch_size": config.train.batch_size,
        **machine(torch.device("cpu")),
    }


def write_encoder(config: RunConfig, rows: BenchRows, folder: Path) -> str:
    """The name of the encoder. If its weights are random, it is written to the folder, with the tokenizer."""
    if config.encoder.name is not None:
        from data_utils.encoder_names import resolve_name

        return str(resolve_name(config.encoder.name))
    from mt_dnn.encoders.pretrained import fresh_model, make_config

    fresh_model(make_config(config.encoder.config or {})).save_pretrained(folder)
    rows.tokenizer.save_pretrained(folder)
    return str(folder)


def train_once(config: RunConfig, encoder: str, folder: Path) -> Spent:
    """Starts ``mt-dnn train`` in a new run folder. Returns what it takes until it has logged the first update."""
    run = config.model_dump(mode="json")
    run["encoder"] |= {"name": encoder, "config": None, "sha256": None}
    run["log"]["every_steps"] = 1
    run |= {"output": str(folder), "device": "cpu"}
    dump_config(RunConfig.model_validate(run), folder.with_suffix(".yml"))
    command = [sys.executable, "-m", "mt_dnn.cli", "train", str(folder.with_suffix(".yml"))]

    def updated(process: subprocess.Popen[bytes]) -> bool:
        log = folder / "metrics.jsonl"
        while process.poll() is None:
            if log.exists() and b'"step": 1' in log.read_bytes():
                return True
            time.sleep(POLL_S)
        return False

    return until(command, updated, "mt-dnn train")


def until(command: list[str], done: Callable[[Any], bool], name: str) -> Spent:
    """Starts a process, waits until ``done`` returns, and kills it. Returns the seconds, and those of its processor.

    ``name``: what the process is, for the message.

    Raises:
        UserError: ``done`` says that the process has not come so far.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        reached = done(process)
        wall, cpu = time.perf_counter() - start, processor_seconds(process.pid)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    if not reached:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"bench start: {name} ended before its first update ({last[0]})")
    return Spent(wall, cpu)


def processor_seconds(pid: int) -> float:
    """The seconds that all threads of a process had a processor so far (Linux: /proc/<pid>/stat, fields 14 and 15)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
