"""Fixtures shared by all tiers."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never ask the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from tests.workspace import make_workspace

settings.register_profile("tests", deadline=None)  # a busy machine is slow, which is no failure
settings.load_profile("tests")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A fresh folder with encoder/, data/, tasks.yml and run.yml."""
    make_workspace(tmp_path)
    return tmp_path
