"""Runs combinations through the command line and collects all that their run folders hold.

This file imports nothing of the project. It can therefore be executed by its path against any checkout, the one that
PYTHONPATH names: ``PYTHONPATH=CHECKOUT python tests/golden/runner.py JOB.json RESULT.json``. JOB.json is written by
``tests/golden/__main__.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import math
import re
import runpy
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TIMINGS = {"examples_per_s", "tokens_per_s"}
Figures = dict[str, Any]


class CommandError(Exception):
    """A command ended with another exit code than 0; the message holds what it printed."""


def run_command(*arguments: str) -> str:
    """Runs ``python -m mt_dnn.cli ARGUMENTS`` in this process and returns its standard output.

    Raises:
        CommandError: the exit code is not 0.
    """
    output, errors, old = io.StringIO(), io.StringIO(), sys.argv
    sys.argv, code = ["mt-dnn", *arguments], 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), warnings.catch_warnings():
            # Someone else in this process may have imported the module that is executed here once more.
            warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
            runpy.run_module("mt_dnn.cli", run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        sys.argv = old
    if code != 0:
        raise CommandError(f"mt-dnn {' '.join(arguments)}: exit code {code}\n{output.getvalue()}{errors.getvalue()}")
    return output.getvalue()


def run_combination(run_file: Path, output: Path, overrides: Sequence[str]) -> Figures:
    """Trains one combination into ``output`` and returns its figures."""
    run_command("train", str(run_file), f"output={output}", *overrides)
    return read_run(output)


def read_run(run: Path) -> Figures:
    """All figures of a finished run, exact, read from files of formats that do not change."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    records = [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]
    checkpoint = max((run / "checkpoints").glob("step-*"))
    tensors = {key: value for file in tensor_files(checkpoint) for key, value in read_tensors(checkpoint, file)}
    return {
        "updates": [record for record in records if record["event"] == "train"],
        "evaluations": [record for record in records if record["event"] == "evaluation"],
        "summary": json.loads((run / "summary.json").read_text(encoding="utf-8")),
        "state": json.loads((checkpoint / "trainer" / "state.json").read_text(encoding="utf-8")),
        "norms": norms(tensors),
        "tensors": {key: digest(value.tobytes(), str(value.dtype), str(value.shape)) for key, value in tensors.items()},
        "answers": {path.stem: answers(path) for path in sorted((run / "predictions").glob("*.jsonl"))},
        "files": {str(path.relative_to(run)): digest(path.read_bytes()) for path in written(run)},
    }


def written(run: Path) -> list[Path]:
    """Files whose bytes are compared: predictions, tallies of adversaries, and the encoder without its weights."""
    return sorted([*run.glob("predictions/*"), *run.glob("adversary/*"), *run.glob("checkpoints/*/encoder/*.json")])


def tensor_files(checkpoint: Path) -> list[str]:
    """Names of the safetensors files of a checkpoint, relative to it."""
    return sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*.safetensors"))


def read_tensors(checkpoint: Path, file: str) -> Iterator[tuple[str, Any]]:
    """The tensors of a file as numpy arrays, each under the name ``<file>:<tensor>``."""
    from safetensors.numpy import load_file

    for name, value in sorted(load_file(checkpoint / file).items()):
        yield f"{file}:{name}", value


def digest(*contents: bytes | str) -> str:
    """SHA-256 of some contents one after the other."""
    whole = hashlib.sha256()
    for content in contents:
        whole.update(content.encode() if isinstance(content, str) else content)
    return whole.hexdigest()


def norms(tensors: Mapping[str, Any]) -> dict[str, float]:
    """The L2 norm of each group of tensors in float64. The units of heads are not trained, so they are left out."""
    squares: dict[str, float] = {}
    for key, value in ((key, value) for key, value in tensors.items() if ".units." not in key):
        group = group_of(key)
        squares[group] = squares.get(group, 0.0) + float((value.astype("float64") ** 2).sum())
    return {group: math.sqrt(total) for group, total in squares.items()}


def group_of(key: str) -> str:
    """The group that a tensor belongs to: embeddings, one block, one head, or one kind of optimizer state."""
    file, name = key.split(":", 1)
    stem = Path(file).stem
    if stem == "optimizer":
        return f"optimizer {name.split('::')[0 if name.startswith('lookahead') else -1]}"
    block = re.search(r"layers?\.\d+", name)
    parts = name.split(".")
    return f"{stem} {block[0] if block else '.'.join(parts[: 2 if parts[0] == 'heads' else 1])}"


def answers(path: Path) -> dict[str, float]:
    """Number and L2 norm of all probabilities and values in a file of predictions."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [
        number
        for record in records
        for key, value in record.items()
        if key not in ("uid", "gold")
        for number in numbers(value)
    ]
    return {"count": len(found), "norm": math.sqrt(sum(number * number for number in found))}


def numbers(value: Any) -> Iterator[float]:
    """All numbers inside nested lists and dictionaries."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)


def prepared_files(cache: Path) -> dict[str, str]:
    """Names and hashes of all files that the runs have prepared."""
    return {str(path.relative_to(cache)): digest(path.read_bytes()) for path in sorted(cache.rglob("*.*"))}


def check_checkout(expected: Path) -> None:
    """Raises SystemExit when Python would import the project from elsewhere."""
    for package in ("mt_dnn", "data_utils"):
        found = importlib.util.find_spec(package)
        origin = None if found is None or found.origin is None else Path(found.origin).resolve()
        if origin is None or expected.resolve() not in origin.parents:
            raise SystemExit(f"{package} comes from {origin}, not from {expected}")


def main(job_file: str, result_file: str) -> None:
    """Runs the combinations of a job; one that fails has its error as its only figure."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    check_checkout(Path(job["checkout"]))
    output, results = Path(job["output"]), {}
    for name, overrides in job["combinations"].items():
        try:
            results[name] = run_combination(Path(job["run_file"]), output / "runs" / name, overrides)
        except Exception as error:  # the others are still worth their figures
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    if job["cache"] is not None:
        results["prepared rows"] = prepared_files(Path(job["cache"]))
    Path(result_file).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files would hide modules of the same names
    main(*sys.argv[1:])
