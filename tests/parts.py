"""The parts of a run without a run folder, for tests that train or evaluate a few steps by hand."""

from __future__ import annotations

from pathlib import Path

from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.start import Parts, start


def parts(workspace: Path, *options: str) -> Parts:
    """What ``start`` builds from the workspace's run file and these ``key=value`` options. Nothing is written."""
    return start(load_config(workspace / "run.yml", options))
