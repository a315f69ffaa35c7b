"""Commands say and use what the modules that they do not import at once define."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main

from data_utils.benchmarks.hub import BENCHMARKS
from mt_dnn.cli.main import app, main
from mt_dnn.runs.config import DataConfig
from tests.layouts import lay_out
from tests.tiny import tiny_tokenizer


def parameters(command: str) -> dict[str, Any]:
    commands: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in commands.commands[command].params}


def test_help_of_data_lists_every_benchmark() -> None:
    words = parameters("data")["benchmark"].help.removesuffix(".").replace(" or ", ", ").split(", ")
    assert sorted(words) == sorted(BENCHMARKS)


@pytest.mark.parametrize("option", ["max_length", "stride"])
def test_prepare_has_the_defaults_of_a_run(option: str) -> None:
    assert parameters("prepare")[option].default == DataConfig.model_fields[option].default


def test_prepare_cuts_windows_with_the_stride_asked_for(tmp_path: Path) -> None:
    lay_out(tmp_path, {"tasks.yml": "w: {task_type: sequence_labelling, data_format: words, labels: [O, B-X]}\n"})
    lay_out(tmp_path, {"w_train.tsv": "uid\tlabel\twords\n0\tO B-X\tthe dog\n"})
    tiny_tokenizer(tmp_path / "encoder")
    options = ["--data", str(tmp_path), "--encoder", str(tmp_path / "encoder"), "--max-length", "16", "--stride", "4"]
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", str(tmp_path / "tasks.yml"), *options])
    assert exit_.value.code == 0
    (manifest,) = (tmp_path / "prepared").glob("w_train-*/manifest.json")
    assert json.loads(manifest.read_text())["stride"] == 4
