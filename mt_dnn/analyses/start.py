"""Starts an analysis by its name, with run folders and options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_utils.errors import UserError, unknown_key
from mt_dnn.analyses.agreement import agreement
from mt_dnn.analyses.answers import Answers, NamedRun, Record, answers_of
from mt_dnn.analyses.attack import AttackConfig
from mt_dnn.analyses.calibration import BINS, calibration
from mt_dnn.analyses.challenge import challenge
from mt_dnn.analyses.confusion import confusion
from mt_dnn.analyses.loss_surface import loss_surface
from mt_dnn.analyses.neighbours import Request, neighbours
from mt_dnn.analyses.robustness import robustness
from mt_dnn.analyses.tally import tally
from mt_dnn.inference.trained import TrainedModel, load

Runs = Sequence[NamedRun]
PATHS = ("data", "task_defs", "annotations")  # options that a study file writes as text


def start(kind: str, runs: Runs, options: Mapping[str, Any], *, folder: Path | None = None) -> Record:
    """Makes the record of an analysis.

    Args:
        kind: a key of ``ANALYSES``.
        options: by name, as ``mt-dnn analyze`` has them.
        folder: where an analysis that takes long keeps what it has computed, to go on after a stop.

    Raises:
        UserError: an unknown option, one that is missing, or anything that the analysis refuses.
    """
    function = ANALYSES[kind]
    known = {name: value for name, value in inspect.signature(function).parameters.items() if name != "runs"}
    for name in options:
        if name not in known or name == "folder":
            raise unknown_key(kind, name, known.keys() - {"folder"})
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise UserError(f"{kind}: missing option '{name}'")
    paths = {name: Path(options[name]) for name in PATHS if options.get(name) is not None}
    return function(runs, **{**options, **paths}, **({"folder": folder} if "folder" in known else {}))


def _confusion(
    runs: Runs,
    *,
    task: str,
    split: str = "dev",
    data: Path | None = None,
    task_defs: Path | None = None,
    device: str | None = None,
) -> Record:
    if len(runs) > 2:
        raise UserError(f"confusion: {len(runs)} runs; give one, or two to compare")
    return confusion(_answers(runs, task, [split], data, task_defs, device))


def _agreement(
    runs: Runs,
    *,
    task: str = "mnli",
    split: str = "dev_matched",
    annotations: Path | None = None,
    data: Path | None = None,
    task_defs: Path | None = None,
    device: str | None = None,
) -> Record:
    found = _answers(runs, task, [split], data, task_defs, device, with_rows=True)
    return agreement(found, annotations)


def _calibration(
    runs: Runs,
    *,
    task: str,
    split: str = "dev",
    bins: int = BINS,
    data: Path | None = None,
    task_defs: Path | None = None,
    device: str | None = None,
) -> Record:
    return calibration(_answers(runs, task, [split], data, task_defs, device), bins)


def _challenge(
    runs: Runs,
    *,
    task: str,
    split: str | Sequence[str] = "test",
    by: Sequence[str] = (),
    data: Path | None = None,
    task_defs: Path | None = None,
    device: str | None = None,
) -> Record:
    splits = [split] if isinstance(split, str) else split
    return challenge(_answers(runs, task, splits, data, task_defs, device, with_rows=bool(by)), by)


def _loss_surface(
    runs: Runs,
    *,
    task: str,
    points: int = 21,
    extent: float = 1.0,
    rows: int = 256,
    seed: int = 0,
    device: str | None = None,
) -> Record:
    if len(runs) > 2:
        raise UserError(f"loss_surface: {len(runs)} runs; give one, or two")
    grid: Any = {"points": points, "extent": extent, "rows": rows, "seed": seed}
    return loss_surface(_models(runs, device), task, **grid, progress=lambda numbers: _bar(numbers, "points"))


def _robustness(
    runs: Runs,
    *,
    task: str,
    split: str = "dev",
    radius: float = 0.5,
    levels: int = 10,
    reference: Sequence[str] = (),
    examples: int = 100,
    steps: int = 200,
    restarts: int = 1,
    step_size: float = 0.1,
    seed: int = 0,
    data: Path | None = None,
    device: str | None = None,
    folder: Path | None = None,
) -> Record:
    return robustness(
        _models(runs, device),
        task,
        split,
        radius=radius,
        levels=levels,
        examples=examples,
        references=reference,
        config=AttackConfig(steps, restarts, step_size, seed),
        data=data,
        folder=folder,
        progress=_bar,
    )


def _neighbours(
    runs: Runs,
    *,
    task: str,
    word: str,
    level: int = 0,
    split: str = "dev",
    uid: str | None = None,
    rows: int = 1000,
    top: int = 10,
    seed: int = 0,
    data: Path | None = None,
    device: str | None = None,
) -> Record:
    request = Request(word, level, split, uid, rows, top, seed)
    return neighbours(_models(runs, device), task, request, data=data)


def _tally(runs: Runs, *, task: str | None = None) -> Record:
    if len(runs) > 1:
        raise UserError(f"tally: {len(runs)} runs; give one")
    return tally(runs[0].folder, task)


ANALYSES: Mapping[str, Callable[..., Record]] = {
    "confusion": _confusion,
    "agreement": _agreement,
    "calibration": _calibration,
    "challenge": _challenge,
    "loss_surface": _loss_surface,
    "robustness": _robustness,
    "neighbours": _neighbours,
    "tally": _tally,
}


def _answers(
    runs: Runs,
    task: str,
    splits: Sequence[str],
    data: Path | None,
    task_defs: Path | None,
    device: str | None,
    *,
    with_rows: bool = False,
) -> list[Answers]:
    options: dict[str, Any] = {"with_rows": with_rows, "data": data, "task_defs": task_defs, "device": device}
    return [answers_of(run, task, split, **options) for split in splits for run in runs]


def _models(runs: Runs, device: str | None) -> list[tuple[NamedRun, TrainedModel]]:
    return [(run, load(run.folder, device, precision="fp32")) for run in runs]


def _bar(items: Any, what: str) -> Iterable[Any]:
    """The items with a progress bar, which appears after a second."""
    return tqdm(items, what, leave=False, delay=1)
