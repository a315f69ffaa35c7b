"""Runs the combinations in two checkouts and compares their figures bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.golden.inputs import all_combinations, make_inputs

RUNNER = Path(__file__).with_name("runner.py")
ROOT = Path(__file__).parents[2]
SAME_FOR_BOTH = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",  # the other checkout stays as it is
}


def start(
    checkout: Path, folder: Path, output: Path, only: Sequence[str] = (), *, threads: int = 1
) -> subprocess.Popen[str]:
    """Starts a process that runs the combinations with the code of a checkout and writes ``output/results.json``."""
    output.mkdir(parents=True)
    cache = output / "prepared"
    job = {
        "checkout": str(checkout),
        "run_file": str(folder / "run.yml"),
        "output": str(output),
        "cache": str(cache),
        "combinations": {
            name: [f"data.cache={cache}", *overrides]
            for name, overrides in all_combinations(folder).items()
            if not only or name in only
        },
    }
    (output / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, str(RUNNER), str(output / "job.json"), str(output / "results.json")]
    environment = {**os.environ, **SAME_FOR_BOTH, "PYTHONPATH": str(checkout)}
    environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], output: Path) -> dict[str, Any]:
    """Waits for a process that ``start`` has started; returns the figures of each combination.

    Raises:
        SystemExit: the process has failed.
    """
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{output.name}: the runs failed with exit code {process.returncode}\n{errors}")
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def compare(before: Path, only: Sequence[str], work: Path) -> int:
    """Runs both checkouts, prints a line per combination that differs and how many are identical; the exit code."""
    folder = work / "inputs"
    folder.mkdir(parents=True)
    make_inputs(folder)
    outputs = {"before": work / "before", "after": work / "after"}
    processes = [start(before.resolve(), folder, outputs["before"], only), start(ROOT, folder, outputs["after"], only)]
    old, new = (finish(process, output) for process, output in zip(processes, outputs.values(), strict=True))
    differing = 0
    for name in old:
        found = list(differences(old[name], new[name]))
        failed = "error" in old[name] or "error" in new[name]
        if found or failed:
            differing += 1
            print(f"{name}: {described(old[name], new[name], found)}")
    print(f"{len(old) - differing} of {len(old)} are identical")
    return int(differing > 0)


def described(old: Mapping[str, Any], new: Mapping[str, Any], found: Sequence[str]) -> str:
    """What differs between the figures of a combination, on one line."""
    for when, figures in (("before", old), ("after", new)):
        if "error" in figures:
            return f"failed {when}: {' / '.join(str(figures['error']).splitlines())}"
    losses = [[update["loss"] for update in figures.get("updates", [])] for figures in (old, new)]
    first = next((number for number, pair in enumerate(zip(*losses, strict=False), 1) if pair[0] != pair[1]), None)
    place = "" if first is None else f"losses from update {first} on; "
    return f"{place}{len(found)} figures, the first of them {found[0]}"


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Every figure that is not exactly the same in two nested structures, as ``place: old, new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{place}/{key}" if place else str(key)
            if key not in old or key not in new:
                yield f"{inner}: only {'before' if key in old else 'after'}"
            else:
                yield from differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}[{number}]")
    elif type(old) is not type(new) or old != new:
        yield f"{place}: {str(old)[:40]}, {str(new)[:40]}"
