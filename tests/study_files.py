"""Small studies for tests, on the workspace's tiny encoder and made-up rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mt_dnn.studies.grid import Grid
from mt_dnn.studies.study import load_study


def content(workspace: Path, **changes: Any) -> dict[str, Any]:
    """A study of two modes with one task. ``changes``: keys of the study file."""
    return {
        "title": "two modes",
        "base": str(workspace / "run.yml"),
        "settings": {"tasks": ["negated"], "train.epochs": 1, "log.every_steps": 3},
        "axes": {"method": {"plain": {"adversary.mode": "none"}, "rdrop": {"adversary.mode": "rdrop"}}},
        **changes,
    }


def write_study(workspace: Path, name: str = "study.yml", **changes: Any) -> Path:
    """Writes a study file and returns its path. The run file ``run.yml`` need not exist."""
    file = workspace / name
    file.write_text(yaml.safe_dump(content(workspace, **changes), sort_keys=False), encoding="utf-8")
    return file


def grid_of(workspace: Path, *overrides: str, **changes: Any) -> Grid:
    return Grid(load_study(write_study(workspace, **changes)), overrides)
