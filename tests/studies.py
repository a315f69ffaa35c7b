"""Made-up studies and records, for tests of tables: no data, no weights, no training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mt_dnn.studies.choice import wanted_runs
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.identity import run_tasks
from mt_dnn.studies.records import Record
from mt_dnn.studies.study import load_study

TASK_DEFS: dict[str, dict[str, Any]] = {
    "mnli": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["contradiction", "neutral", "entailment"],
        "metrics": ["accuracy"],
        "splits": ["train", "dev_matched", "dev_mismatched", "test_matched"],
    },
    "rte": {"task_type": "classification", "data_format": "pair", "labels": ["no", "yes"], "metrics": ["accuracy"]},
    "mrpc": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["0", "1"],
        "metrics": ["accuracy", "f1", "confusion_matrix"],
    },
    "stsb": {
        "task_type": "regression",
        "data_format": "pair",
        "value_range": [0, 5],
        "metrics": ["pearson", "spearman"],
    },
    "hans": {
        "task_type": "classification",
        "data_format": "pair",
        "labels": ["non-entailment", "entailment"],
        "metrics": ["accuracy"],
        "head": "mnli",
        "label_map": {
            "contradiction": "non-entailment",
            "neutral": "non-entailment",
            "entailment": "entailment",
        },
        "splits": ["test"],
    },
}
METHODS = {
    "plain": {"adversary.mode": "none"},
    "freelb": {"adversary.mode": "freelb"},
    "vat": {"adversary.mode": "vat"},
}
Scores = Callable[[PlannedRun, str, str, str], float]  # of a run: task, split, metric → a share


def write_study(folder: Path, **keys: Any) -> Path:
    """Writes a study file with its run file and task file. ``keys`` replace those of the study; None removes one."""
    (folder / "tasks.yml").write_text(yaml.safe_dump(TASK_DEFS, sort_keys=False))
    run = {"task_defs": str(folder / "tasks.yml"), "data": {"dir": str(folder)}, "encoder": {"name": "an-encoder"}}
    (folder / "run.yml").write_text(yaml.safe_dump(run))
    study = {
        "title": "A study",
        "base": str(folder / "run.yml"),
        "axes": {"task": ["rte", "mrpc"], "method": METHODS},
        "seeds": 3,
        "show": {"rows": "method", "columns": "task", "average": "task_means", "reference": "plain"},
        **keys,
    }
    file = folder / "study.yml"
    given = {key: value for key, value in study.items() if value is not None}
    file.write_text(yaml.safe_dump(given, sort_keys=False))
    return file


def made_up_grid(folder: Path, **keys: Any) -> Grid:
    return Grid(load_study(write_study(folder, **keys)))


def record_of(run: PlannedRun, scores: Scores, **further: Any) -> Record:
    """A record as a finished run writes it."""
    tasks = run_tasks(run.given)
    results = [
        {
            "task": task.name,
            "split": split,
            "rows": 1000,
            "scores": {
                name: [[1, 0], [0, 1]] if name == "confusion_matrix" else scores(run, task.name, split, name)
                for name in task.metrics
            },
            "baseline": dict.fromkeys(task.metrics, 0.5),
        }
        for task, split in tasks.splits
        if split != "train"
    ]
    mode = run.given.adversary.mode
    return {
        "run": f"{'-'.join(tasks.trained)}-{mode}-seed{run.seed}-{run.settings_id}",
        "id": run.settings_id,
        "settings_id": run.settings_id,
        "tasks": list(tasks.trained),
        "mode": mode,
        "seed": run.seed,
        "settings": run.identity.computed["settings"],
        "data": {"rte_dev": "aaaa"},
        "encoder": {"model.safetensors": "bbbb"},
        "versions": {"torch": "2.13.0"},
        "commit": "abcdef",
        "machine": {"processor": "a processor", "threads": 1},
        "steps": 10,
        "selected_step": 10,
        "results": results,
        "figures": {},
        "seconds": 20.0,
        "cpu_seconds": 10.0,
        **further,
    }


def failure_of(run: PlannedRun) -> Record:
    kept = record_of(run, lambda *_: 0.0)
    left_out = ("results", "figures", "steps", "selected_step", "seconds", "cpu_seconds")
    return {**{k: v for k, v in kept.items() if k not in left_out}, "error": "the loss is not finite", "attempts": 2}


def all_records(grid: Grid, scores: Scores, without: Iterable[str] = ()) -> dict[str, Record]:
    """Records of all runs of a study by settings, but those whose description contains one of the texts ``without``."""
    known: dict[str, Record] = {}
    left_out: Mapping[str, None] = dict.fromkeys(without)
    while True:
        runs = [run for run in wanted_runs(grid, known) if not any(text in str(run) for text in left_out)]
        new = [run for run in runs if run.settings_id not in known]
        if not new:
            return known
        known.update({run.settings_id: record_of(run, scores) for run in new})
