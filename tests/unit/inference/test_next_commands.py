"""What a run prints at its end. tests/end_to_end/test_export.py types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt_dnn.inference.next_commands import next_commands
from mt_dnn.runs.config_file import load_config
from tests.parts import parts


@pytest.mark.parametrize(
    ("options", "predict", "export"),
    [
        (["tasks=[negated]"], "", " --output FOLDER"),
        (["tasks=[same]"], " --task same", " --output FOLDER"),  # another task reads its head
        (["tasks=[same,negated]"], " --task same", " --task same --output FOLDER"),
        (["tasks=[negated]", "encoder.pooler=mean"], "", " --encoder-only --output FOLDER"),
        (["tasks=[negated]", "encoder.scalar_mix=true"], "", None),
    ],
)
def test_tasks_are_named_and_what_cannot_be_exported_is_not(
    options: list[str], predict: str, export: str | None, workspace: Path
) -> None:
    run = workspace / "run"
    commands = [
        command for command, _ in next_commands(load_config(workspace / "run.yml", options), parts(workspace, *options))
    ]
    assert commands[:2] == [f"predict {run}{predict} --input FILE", f"compare {run} OTHER_RUN"]
    assert commands[2:] == ([] if export is None else [f"export {run}{export}"])
