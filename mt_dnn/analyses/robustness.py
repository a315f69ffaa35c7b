"""FreeLB's maximum loss increment of trained models (Zhu et al. 2020, tables 5 and 7)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import UserError, os_errors
from data_utils.files import LARGEST, checksum, read_text
from data_utils.prepared import Prepared
from mt_dnn.analyses.answers import NamedRun, Record
from mt_dnn.analyses.attack import AttackConfig, attack
from mt_dnn.inference.evaluation import check_labelled, read_splits
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.build import build_passes

Progress = Callable[[list[np.ndarray], str], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Attacked:
    """A model, and the split that it is attacked on."""

    run: NamedRun
    model: TrainedModel
    split: Prepared


class Journal:
    """Keeps what was computed, so that a stopped analysis goes on. One JSON object a line: a stage and its values.

    ``path``: the file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, dict[int, list[float]]] = {}
        if path is not None and path.exists():
            with os_errors(path, "cannot be read"):
                for line in read_text(path, most=LARGEST).splitlines():
                    if line.endswith("}"):  # else it was cut off when the process ended
                        self._read(line)

    def add(self, stage: str, rows: np.ndarray, values: Sequence[np.ndarray]) -> None:
        """Notes the values of some rows, each (B,)."""
        columns = [[float(value) for value in column] for column in zip(*values, strict=True)]
        record = {"stage": stage, "rows": rows.tolist(), "values": columns}
        self._note(**record)
        if self.path is not None:
            with os_errors(self.path, "cannot be written"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(record) + "\n")

    def _read(self, line: str) -> None:
        try:
            self._note(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            raise UserError(f"{self.path}: is damaged; remove it, then start the same command again") from None

    def _note(self, stage: str, rows: Sequence[int], values: Sequence[list[float]]) -> None:
        self.known.setdefault(stage, {}).update(zip(rows, values, strict=True))


def robustness(
    runs: Sequence[tuple[NamedRun, TrainedModel]],
    task: str,
    split: str,
    *,
    radius: float,
    levels: int = 10,
    examples: int = 100,
    references: Sequence[str] = (),
    config: AttackConfig = AttackConfig(),  # noqa: B008 (frozen)
    data: Path | None = None,
    folder: Path | None = None,
    progress: Progress = lambda batches, what: batches,
) -> Record:
    """How much the loss of each run can grow in a ball around examples that all runs classify correctly.

    The ball of an example is that of a reference run: the largest of ``levels`` radii, from ``radius`` down in equal
    steps, in which an attack on the reference finds no wrong class. So there is a table for each reference.

    Args:
        examples: how many; drawn with the seed from those that all runs classify correctly.
        references: names of runs; default: each run in turn.
        folder: where intermediate results are kept, so that the same call goes on after a stop; None: nowhere.
        progress: shows how far it is, by wrapping the batches of a stage.

    Raises:
        UserError: a run was not trained on the task, the task has no classes, rows have no labels, no run has a name of
            ``references``, or no example is classified correctly by all runs.
    """
    attacked = [_attacked(run, model, task, split, data) for run, model in runs]
    names = [found.run.name for found in attacked]
    for name in references:
        if name not in names:
            raise UserError(f"reference: no run is named '{name}' (names: {', '.join(names)})")
    rows, correct = _examples(attacked, task, examples, config.seed)
    settings = {"task": task, "split": split, "radius": radius, "levels": levels, **asdict(config)}
    journal = Journal(_journal_path(folder, attacked, {**settings, "rows": rows.tolist()}))
    work = Work(task, config, journal, progress)
    sizes = [radius * level / levels for level in range(levels, 0, -1)]
    tables = [
        _table(attacked, number, work.balls(number, reference, rows, sizes), len(rows), work)
        for number, reference in enumerate(attacked)
        if not references or reference.run.name in references
    ]
    counts = {"examples": len(rows), "correct_in_all": correct}
    return {"kind": "robustness", **settings, **counts, "references": tables}


@dataclass(frozen=True)
class Work:
    """Attacks rows of runs, except where the journal knows the outcome."""

    task: str
    config: AttackConfig
    journal: Journal
    progress: Progress

    def balls(self, number: int, reference: Attacked, rows: np.ndarray, sizes: Sequence[float]) -> dict[int, float]:
        """The first of the sizes in which an attack on the reference finds no wrong class, by row; not all have one."""
        radii: dict[int, float] = {}
        for size in sizes:
            left = [row for row in rows.tolist() if row not in radii]
            stage = f"ball {size:g} of run {number + 1}, {reference.run.name}"
            outcome = self.outcomes(stage, reference, dict.fromkeys(left, size), until_wrong=True)
            radii |= {row: size for row, (_, _, safe) in outcome.items() if safe}
        return dict(sorted(radii.items()))

    def outcomes(
        self, stage: str, target: Attacked, radii: Mapping[int, float], *, until_wrong: bool = False
    ) -> dict[int, list[float]]:
        """Clean loss, increase and safety of each row in the ball of its radius. ``stage``: what this is."""
        known = self.journal.known.setdefault(stage, {})
        left = np.array([row for row in radii if row not in known], np.int64)
        passes = build_passes(target.model.config, next(target.model.model.parameters()).device)
        batches = [left[numbers] for numbers in passes.batches(target.split.lengths[left])]
        for batch in self.progress(batches, stage):
            sizes = np.array([radii[row] for row in batch.tolist()])
            outcome = attack(target.model, self.task, target.split, batch, sizes, self.config, until_wrong=until_wrong)
            self.journal.add(stage, batch, outcome)
        return {row: known[row] for row in radii}


def _attacked(run: NamedRun, model: TrainedModel, task: str, split: str, data: Path | None) -> Attacked:
    definition = model.task(task)
    if task not in model.trained or definition.type.answer != "class":
        raise UserError(f"{run.folder}: {task}: choose a task with classes that the run was trained on")
    splits, missing = read_splits(model.config, [(definition, split)], model.tokenizer, data=data)
    if (task, split) not in splits:
        raise UserError(f"{run.folder}: no split {split} of {task}{f' ({missing[0]})' if missing else ''}")
    check_labelled(splits.values())
    model.model.requires_grad_(False)  # only perturbations have gradients
    return Attacked(run, model, splits[task, split])


def _examples(attacked: Sequence[Attacked], task: str, count: int, seed: int) -> tuple[np.ndarray, int]:
    """The numbers of the rows to attack, and how many rows all runs classify correctly."""
    first = attacked[0].split
    right = np.ones(len(first), bool)
    for found in attacked:
        labels = found.split.labels
        if found.split.uids != first.uids or (labels != first.labels).any():  # type: ignore[union-attr]
            raise UserError(f"{found.run.folder}: has other rows than {attacked[0].run.folder}; give both --data")
        right &= found.model.decode(found.model.task(task), found.split).predictions == labels
    correct = np.flatnonzero(right)
    if not len(correct):
        raise UserError(f"{task}: no example is classified correctly by all runs")
    return np.sort(np.random.default_rng(seed).permutation(correct)[:count]), len(correct)


def _journal_path(folder: Path | None, attacked: Sequence[Attacked], settings: Mapping[str, Any]) -> Path | None:
    """The file of intermediate results. Its name has a hash of the settings and of the weights of all runs."""
    if folder is None:
        return None
    weights = [checksum(file) for found in attacked for file in _weights(found.model.folder)]
    content = json.dumps({"settings": settings, "weights": weights}, sort_keys=True)
    return folder / f".robustness-{hashlib.sha256(content.encode()).hexdigest()[:12]}.jsonl"


def _weights(folder: Path) -> list[Path]:
    """The files of weights of a checkpoint, or of a model of transformers, which may have them in PyTorch's format."""
    return sorted([*folder.rglob("*.safetensors"), *folder.glob("pytorch_model*.bin")])


def _table(attacked: Sequence[Attacked], number: int, radii: Mapping[int, float], count: int, work: Work) -> Record:
    """The increments of all runs in the balls of run ``number``. ``count``: how many examples were asked for."""
    reference, models = attacked[number], []
    for other, found in enumerate(attacked):
        stage = f"run {other + 1}, {found.run.name}, in the balls of run {number + 1}"
        outcome = work.outcomes(stage, found, radii)
        clean, increase = (np.array([outcome[row][column] for row in radii]) for column in (0, 1))
        figures = {"median": _or_none(np.median, increase), "sd": _or_none(_deviation, increase)}
        figures |= {"clean_loss_median": _or_none(np.median, clean), "clean_loss_sd": _or_none(_deviation, clean)}
        run = {"name": found.run.name, "run": str(found.run.folder)}
        models.append({**run, **figures, "clean_losses": clean.tolist(), "increases": increase.tolist()})
    return {
        "name": reference.run.name,
        "run": str(reference.run.folder),
        "left_out": count - len(radii),  # in these even the smallest ball was too large
        "uids": [reference.split.uids[row] for row in radii],
        "radii": list(radii.values()),
        "models": models,
    }


def _deviation(values: np.ndarray) -> float:
    return values.std(ddof=1) if len(values) > 1 else float("nan")


def _or_none(figure: Callable[[np.ndarray], Any], values: np.ndarray) -> float | None:
    """The figure for JSON, which has no NaN: null stands for it."""
    value = float(figure(values)) if len(values) else float("nan")
    return None if np.isnan(value) else value
