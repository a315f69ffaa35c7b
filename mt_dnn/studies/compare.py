"""Two runs beside each other: scores, tests over examples, and which examples have flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import UserError
from data_utils.files import read_lines
from data_utils.metrics import METRICS, compute
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.text_table import table
from mt_dnn.runs.folder import TASKS
from mt_dnn.runs.predictions import read_predictions
from mt_dnn.studies.example_scores import right_examples
from mt_dnn.studies.example_tests import matched, over_pairs
from mt_dnn.studies.statistics import Comparison, mcnemar

TEXTS = ("first", "second", "choices")


@dataclass(frozen=True)
class Flip:
    """An example that only one of two runs gets right. ``texts``: by name, if the files of predictions have them."""

    uid: str
    gold: Any
    first: Any
    second: Any
    texts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Two runs on one split.

    ``scores``: of both runs, by metric. ``tests``: the first run minus the second, by metric. ``only_first`` and
    ``only_second``: the examples that only this run gets right; None where answers are not right or wrong.
    ``mcnemar``: p of McNemar's test on them.
    """

    task: str
    split: str
    rows: int
    scores: Mapping[str, tuple[float, float]]
    tests: Mapping[str, Comparison]
    only_first: list[Flip] | None = None
    only_second: list[Flip] | None = None
    mcnemar: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(first: Path, second: Path, task: str | None = None, split: str | None = None) -> Iterator[Difference]:
    """Compares two run folders on all labelled splits that both have predicted, or on one task or split.

    Raises:
        UserError: they have no such split, or have predicted different rows of it.
    """
    defs = _tasks(first)
    files = {(name, part): found for name in defs for part, found in _files(first, name, defs)}
    wanted = [
        (name, part)
        for name, part in files
        if (second / "predictions" / files[name, part].name).is_file()
        and task in (None, name)
        and split in (None, part)
        and _is_labelled(files[name, part])
    ]
    if not wanted:
        what = " ".join(word for word in (task, split) if word)
        raise UserError(
            f"{first} and {second}: no labelled split{what and ' '}{what} that both have predicted; "
            "train both with evaluation.predictions=true"
        )
    for name, part in wanted:
        yield _difference(defs[name], part, files[name, part], second / "predictions" / files[name, part].name)


def _tasks(run: Path) -> Mapping[str, TaskDef]:
    if not (run / TASKS).is_file():
        raise UserError(f"{run}: is no run folder; it has no {TASKS}")
    return load_task_defs(run / TASKS)


def _files(run: Path, task: str, defs: Mapping[str, TaskDef]) -> Iterator[tuple[str, Path]]:
    """(split, file of predictions) of a task. The name of another task may begin with that of this one."""
    for file in sorted((run / "predictions").glob(f"{task}_*.jsonl")):
        owner = max((name for name in defs if file.name.startswith(f"{name}_")), key=len)
        if owner == task:
            yield file.stem.removeprefix(f"{task}_"), file


def _is_labelled(file: Path) -> bool:
    _, line = next(read_lines(file), (0, ""))
    return '"gold"' in line


def _difference(task: TaskDef, split: str, first: Path, second: Path) -> Difference:
    try:
        pair = matched(read_predictions(first, task), read_predictions(second, task))
    except UserError as error:
        raise UserError(f"{task.name} {split}: {error}") from None
    metrics = [name for name in task.metrics if METRICS[name].scalar]
    found, reference = (compute(metrics, side.answers) for side in pair)
    scores = {name: (float(found[name]), float(reference[name])) for name in metrics}  # type: ignore[arg-type]
    tests = {name: over_pairs(name, [pair]) for name in metrics}
    right = [right_examples(side) for side in pair]
    if right[0] is None or right[1] is None:
        return Difference(task.name, split, pair[0].rows, scores, tests)

    def flips(chosen: np.ndarray) -> list[Flip]:
        rows = [(pair[0].records[row], pair[1].records[row]) for row in np.flatnonzero(chosen).tolist()]
        return [
            Flip(ours["uid"], ours["gold"], ours["prediction"], theirs["prediction"], _texts(ours, theirs))
            for ours, theirs in rows
        ]

    return Difference(
        task.name,
        split,
        pair[0].rows,
        scores,
        tests,
        flips(right[0] & ~right[1]),
        flips(right[1] & ~right[0]),
        mcnemar(right[0].tolist(), right[1].tolist()),
    )


def _texts(*records: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for record in reversed(records) for name in TEXTS if name in record}


def comparison_text(differences: list[Difference], shown: int) -> str:
    """What ``mt-dnn compare`` prints: a table of scores, then for each split at most ``shown`` flips to either side."""
    rows = []
    for found in differences:
        for metric, (first, second) in found.scores.items():
            test, scale = found.tests[metric], 1 if METRICS[metric].lower_is_better else 100
            figures = (f"{scale * first:.2f}", f"{scale * second:.2f}", f"{scale * test.difference:+.2f}")
            interval, p = "—", "—"
            if test.low is not None and test.high is not None:
                interval, p = f"[{scale * test.low:+.2f}, {scale * test.high:+.2f}]", f"{test.p:.3f}"
            name = f"{found.task} ({found.split})"
            rows.append((name, str(found.rows), metric, *figures, interval, p))
    header = ("task (split)", "rows", "metric", "first", "second", "difference", "95 % interval", "p")
    parts = [table(header, rows)]
    for found in differences:
        if found.only_first is not None and found.only_second is not None:
            parts.append(_flips_text(found, shown))
    return "\n\n".join(parts)


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _flips_text(found: Difference, shown: int) -> str:
    assert found.only_first is not None and found.only_second is not None
    counts = (len(found.only_first), len(found.only_second))
    text = [
        f"{found.task} ({found.split}): only the first run gets {counts[0]} examples right, only the second "
        f"{counts[1]} (McNemar's exact test: {_p_text(found.mcnemar or 0.0)})"
    ]
    for who, flips in (("first", found.only_first), ("second", found.only_second)):
        for flip in flips[:shown]:
            wrong = flip.second if who == "first" else flip.first
            texts = " | ".join(str(value) for value in flip.texts.values())
            text.append(f"  only {who}: {flip.uid}: {flip.gold}, not {wrong}{texts and f': {texts}'}")
        if len(flips) > shown:
            text.append(f"  and {len(flips) - shown} more")
    return "\n".join(text)
