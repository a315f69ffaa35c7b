"""What a run prints at its end. tests/end_to_end/test_export.py types it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from mt_dnn.inference.next_commands import next_commands
from mt_dnn.runs.config_file import load_config
from tests.parts import parts


def printed(workspace: Path, *options: str) -> list[str]:
    config = load_config(workspace / "run.yml", options)
    return [command for command, _ in next_commands(config, parts(workspace, *options))]


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
    run, commands = workspace / "run", printed(workspace, *options)
    assert commands[:2] == [f"predict {run}{predict} --input FILE", f"compare {run} OTHER_RUN"]
    assert commands[2:] == ([] if export is None else [f"export {run}{export}"])


def test_a_folder_with_spaces_is_quoted(workspace: Path) -> None:
    folder = workspace / "my runs" / "a's"
    commands = printed(workspace, "tasks=[negated]", f'output="{folder}"')
    assert [shlex.split(command)[1] for command in commands] == [f"{folder}"] * 3


@pytest.mark.parametrize(
    ("splits", "predictions", "compared"),
    [
        (["train", "dev"], "{splits: labelled}", True),
        (["train", "dev"], "false", False),
        (["train"], "true", False),
    ],
)
def test_only_predictions_of_labelled_rows_are_compared(
    splits: list[str], predictions: str, compared: bool, workspace: Path
) -> None:
    defs = workspace / "tasks.yml"
    tasks = yaml.safe_load(defs.read_text(encoding="utf-8"))
    tasks["negated"]["splits"] = splits
    defs.write_text(yaml.safe_dump(tasks), encoding="utf-8")
    options = [f"evaluation.predictions={predictions}", "evaluation.metric=null"]
    commands = printed(workspace, "tasks=[negated]", *options)
    assert any(command.startswith("compare ") for command in commands) is compared
