"""Short runs that all tests of analyses share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mt_dnn
from tests.workspace import make_workspace

OPTIONS: dict[str, Any] = {"tasks": ["same", "negated"], "train.epochs": 5, "optimizer.lr": 5e-3}
MODES: dict[str, dict[str, Any]] = {
    "none": {"adversary.mode": "none"},
    "tat": {"adversary.mode": "tat"},
    "rapt": {"adversary.mode": "rapt", "adversary.max_layer": 2, "adversary.magnitude": 0.3},
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the runs none, tat and rapt."""
    folder = tmp_path_factory.mktemp("analyses")
    make_workspace(folder, train_rows=96)
    for name, mode in MODES.items():
        mt_dnn.train(folder / "run.yml", {**OPTIONS, **mode, "output": str(folder / name)})
    return folder
