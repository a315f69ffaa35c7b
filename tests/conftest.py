"""Fixtures shared by all tiers."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never ask the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from tests.workspace import make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A fresh folder with encoder/, data/, tasks.yml and run.yml."""
    make_workspace(tmp_path)
    return tmp_path
