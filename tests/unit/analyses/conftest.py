"""Short runs that all tests of analyses share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

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
    """A workspace with the runs none, tat and rapt. The first of pytest's workers makes it, for all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "analyses"
    made = folder / "made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make_workspace(folder, train_rows=96)
            for name, mode in MODES.items():
                mt_dnn.train(folder / "run.yml", {**OPTIONS, **mode, "output": str(folder / name)})
            made.touch()
    return folder
