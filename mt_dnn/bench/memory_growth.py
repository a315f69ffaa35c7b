"""Measures how the peak memory of each command grows with the rows that it reads. Needs no data.

Each command is a process of its own, as a user starts it. The encoder is tiny, so that what grows with rows shows.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.files import read_lines
from data_utils.text_table import markdown, table
from mt_dnn.bench.growth import LENGTHS, OPTIONS, write_result
from mt_dnn.bench.pictures import Panel
from mt_dnn.bench.synthetic import write_run
from mt_dnn.bench.workload import machine
from mt_dnn.runs.config_file import dump_config, load_config

FEWEST = 100
FEW = 2_000  # rows of files that are not to grow
POLL_S = 0.02
PROCESSES = Path("/proc")
COMMANDS = ("prepare", "train", "evaluate", "predict", "distill", "report")
PRIVATE, RESIDENT = "private", "resident"


@dataclass(frozen=True)
class Peak:
    """The most memory that a process had at a time, in 10⁶ bytes, and the seconds that it ran.

    ``private``: memory that only the process has, and that cannot be read again from a file (RssAnon, RssShmem and
    VmSwap of Linux). ``resident``: with the pages of files that are mapped, which the system drops when others need
    memory (VmRSS).
    """

    private: float
    resident: float
    seconds: float


def memory_command(output: Path | None, *, rows: Sequence[str], commands: Sequence[str], as_json: bool) -> None:
    """Measures, prints a table or JSON, and writes memory.json, memory.svg and memory.md into a folder.

    Raises:
        UserError: fewer than two numbers of rows, an unknown command, a system without /proc, a command that fails,
            or a folder that cannot be written.
    """
    sizes = [int(number) for number in rows if number.isdecimal() and len(number) < 10]
    if len(sizes) < max(2, len(rows)) or sorted(set(sizes)) != sizes or sizes[0] < FEWEST:
        raise UserError(
            f"--rows: give two numbers or more from {FEWEST} on, each larger than the one before: 2000,200000"
        )
    if unknown := [name for name in commands if name not in COMMANDS]:
        raise UserError(f"--commands: '{unknown[0]}' is unknown (known: {', '.join(COMMANDS)})")
    if not (PROCESSES / "self" / "status").exists():
        raise UserError("bench memory: reads the memory of processes from /proc, which only Linux has")
    result = growth_of_memory(sizes, commands)
    if output is not None:
        options = f"--output {shlex.quote(str(output))} --rows {','.join(map(str, rows))}"
        options += f" --commands {','.join(commands)}" if tuple(commands) != COMMANDS else ""
        write_result(output, "memory", result, panels(result), page(result, options))
    print(json.dumps(result) if as_json else summary(result))


def growth_of_memory(sizes: Sequence[int], commands: Sequence[str]) -> dict[str, Any]:
    """The peaks of each command for these numbers of rows."""
    found: dict[str, list[Peak]] = {name: [] for name in commands}
    for size in sizes:
        with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
            for name, words in tqdm(Case(Path(folder), size).commands(commands), f"{size} rows", len(commands)):
                found[name].append(peak_of(words, Path(folder) / "messages"))
    figures = {
        f"{key}_megabytes": {name: [round(getattr(peak, key), 1) for peak in peaks] for name, peaks in found.items()}
        for key in (PRIVATE, RESIDENT)
    }
    seconds = {name: [round(peak.seconds, 1) for peak in peaks] for name, peaks in found.items()}
    return {"rows": list(sizes), **figures, "seconds": seconds, "machine": machine(torch.device("cpu"))}


class Case:
    """Files of made-up rows, and the commands that read them. A run that they read is trained if need be.

    ``size``: how many rows the measured command reads. Each row has other texts.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.run_file, self.many, self.few, self.run = (folder / name for name in ("run.yml", "data", "few", "run"))
        write_run(folder, shape="minilm", lengths=LENGTHS, rows=FEW)
        dump_config(load_config(self.run_file, [*OPTIONS, "train.max_steps=3"]), self.run_file)
        defs = folder / "tasks.yml"
        task = yaml.safe_load(defs.read_text(encoding="utf-8"))[LENGTHS]
        defs.write_text(yaml.safe_dump({LENGTHS: {**task, "splits": ["train", "dev"]}}), encoding="utf-8")
        self._write_rows()

    def _write_rows(self) -> None:
        train = self.many / f"{LENGTHS}_train.tsv"
        header, *rows = (line for _, line in read_lines(train))
        texts = [line.split("\t", 2)[2] for line in rows]
        self.few.mkdir()
        for path, size in (
            (self.few / f"{LENGTHS}_train.tsv", FEW),
            (self.few / f"{LENGTHS}_dev.tsv", FEW),
            (self.many / f"{LENGTHS}_dev.tsv", FEW),
            (train, self.size),
        ):
            with path.open("w", encoding="utf-8") as stream:
                stream.write(f"{header}\n")
                for number in range(size):
                    words = f"w{number % 1999} w{number // 1999}"
                    stream.write(f"{number}\t{'ab'[number % 2]}\t{words} {texts[number % len(texts)]}\n")

    def commands(self, wanted: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Yields the words of each command that is wanted, when everything that it reads is there."""
        rows = self.many / f"{LENGTHS}_train.tsv"
        tokenizer, defs = str(self.folder / "tokenizer"), str(self.folder / "tasks.yml")
        if "prepare" in wanted:
            yield "prepare", ["prepare", defs, "--data", str(self.many), "--encoder", tokenizer]
        train = ["train", str(self.run_file), f"output={self.run}"]
        if "train" in wanted:
            yield "train", [*train, f"data.dir={self.many}"]
        given: Mapping[str, list[str]] = {
            "evaluate": [str(self.run), "--data", str(self.many), "--split", "train"],
            "predict": [str(self.run), "--input", str(rows), "--output", str(self.folder / "predictions.jsonl")],
            "distill": [str(self.run), "--data", str(self.many), "--output", str(self.folder / "soft")],
        }
        if "train" not in wanted and any(name in wanted for name in given):
            peak_of([*train, f"data.dir={self.few}"], self.folder / "messages")
        for name in (name for name in given if name in wanted):
            yield name, [name, *given[name]]
        if "report" in wanted:
            yield "report", self._report()

    def _report(self) -> list[str]:
        """Makes a study of two methods whose predictions have many rows, and returns the words of its report."""
        study, runs = self.folder / "study.yml", self.folder / "runs"
        keys = {
            "title": "memory",
            "base": str(self.run_file),
            "settings": {"data.dir": str(self.few)},
            "axes": {"task": [LENGTHS], "method": {"first": {"optimizer.lr": 1e-3}, "second": {"optimizer.lr": 1e-4}}},
            "seeds": 1,
            "show": {"rows": "method", "columns": "task", "reference": "first"},
        }
        study.write_text(yaml.safe_dump(keys), encoding="utf-8")
        peak_of(["sweep", str(study), "--runs", str(runs)], self.folder / "messages")
        for number, path in enumerate(sorted(runs.glob(f"*/predictions/{LENGTHS}_dev.jsonl"))):
            with path.open("w", encoding="utf-8") as stream:
                for row in range(self.size):
                    answer, gold = "ab"[row % (5 + number) % 2], "ab"[row % 2]
                    record = {"uid": str(row), "prediction": answer, "scores": {"a": 0.25, "b": 0.75}, "gold": gold}
                    stream.write(json.dumps(record) + "\n")
        return ["report", str(study), "--runs", str(runs)]


def peak_of(words: Sequence[str], messages: Path) -> Peak:
    """Runs ``mt-dnn`` with these words and reads its memory every ``POLL_S`` seconds.

    ``messages``: a file for what it prints.

    Raises:
        UserError: the command fails.
    """
    private = resident = 0
    begun = time.monotonic()
    with messages.open("wb") as stream:
        command = [sys.executable, "-m", "mt_dnn.cli", *words]
        with subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL) as process:
            while process.poll() is None:
                now = memory_of(process.pid)
                private, resident = max(private, now[0]), max(resident, now[1])
                time.sleep(POLL_S)
    if process.returncode:
        last = messages.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"mt-dnn {words[0]}: ended with code {process.returncode} ({last})")
    return Peak(private / 1000, resident / 1000, time.monotonic() - begun)


def memory_of(number: int) -> tuple[int, int]:
    """The private and the resident memory of a process now, in units of 1,000 bytes. 0 if it has ended."""
    try:
        status = (PROCESSES / str(number) / "status").read_text(encoding="utf-8")
    except OSError:
        return 0, 0
    # Linux counts in units of 1,024 bytes, which it calls kB
    found = {name: int(value) * 1.024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    private = sum(found.get(name, 0) for name in ("RssAnon", "RssShmem", "VmSwap"))
    return round(private), round(found.get("VmRSS", 0))


def growth(values: Sequence[float]) -> float:
    """The most that a later value is above the first."""
    return round(max(values[1:]) - values[0], 1)


def records(result: Mapping[str, Any], key: str) -> list[tuple[str, ...]]:
    """The lines of a table: a command, its figures, and their growth."""
    figures = result[f"{key}_megabytes"]
    return [(name, *(f"{value:.0f}" for value in values), f"{growth(values):.0f}") for name, values in figures.items()]


def summary(result: Mapping[str, Any]) -> str:
    """The figures as tables."""
    parts = [
        table((f"{key} MB, by rows", *map(str, result["rows"]), "growth"), records(result, key))
        for key in (PRIVATE, RESIDENT)
    ]
    return "\n\n".join([*parts, ", ".join(f"{key} {value}" for key, value in result["machine"].items())])


def panels(result: Mapping[str, Any]) -> list[Panel]:
    """What the picture shows."""
    return [
        Panel("rows", f"{key} memory at its peak, MB", result["rows"], result[f"{key}_megabytes"])
        for key in (PRIVATE, RESIDENT)
    ]


PAGE = """# How memory grows with rows

Made by `OMP_NUM_THREADS={threads} mt-dnn bench memory {options}`,
with made-up rows as long as those of SST-2 and an encoder of one block of 24 units. Each command is a process of its
own, and reads that many rows: `prepare` and `train` as training rows (`train` makes 3 updates of an epoch over all of
them), `evaluate` as the split that is scored, `predict` as its input, `distill` as the rows that get soft labels,
`report` as the predictions of two runs, which are compared over examples.
[memory.json](memory.json) holds the figures too.

{machine}.

![Peak memory over rows](memory.svg)

**Private memory.** The most that the process had at a time, in MB (10⁶ bytes), read every {poll} ms: memory that it has
for itself and that cannot be read again from a file (RssAnon, RssShmem and VmSwap of Linux). The last column is the
growth from the fewest rows on.

{private}

**Resident memory.** With the pages of mapped files (VmRSS). Prepared rows are mapped, and so are large arrays with a
number for each row. The system drops these pages, or writes them to disk, when memory is needed for something else.

{resident}

**Seconds** of each command, on a machine with other work.

{seconds}
"""


def page(result: Mapping[str, Any], options: str) -> str:
    """The page memory.md."""
    tables = {
        key: markdown(("MB, by rows", *result["rows"], "growth"), [(f"`{name}`", *values) for name, *values in entries])
        for key, entries in ((key, records(result, key)) for key in (PRIVATE, RESIDENT))
    }
    seconds = [(f"`{name}`", *values) for name, values in result["seconds"].items()]
    return PAGE.format(
        options=options,
        threads=result["machine"]["threads"],
        machine=", ".join(f"{key} {value}" for key, value in result["machine"].items()),
        poll=round(1000 * POLL_S),
        seconds=markdown(("seconds, by rows", *result["rows"]), seconds),
        **tables,
    )
