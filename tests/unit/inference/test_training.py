"""mt_dnn.train: configurations as files, dictionaries and objects, overrides, signals, the example of the README."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.inference.training import TrainingStopped
from mt_dnn.runs.config_file import load_config
from mt_dnn.training.step import Stepper


def test_every_form_of_a_configuration_is_the_same_run(workspace: Path) -> None:
    path = workspace / "run.yml"
    content = yaml.safe_load(path.read_text())
    overrides = {"train.max_steps": 2, "tasks": ["negated"], "evaluation.predictions": False, "seed": 5}
    lines = ["train.max_steps=2", "tasks=[negated]", "evaluation.predictions=false", "seed=5"]
    forms: list[tuple[Any, Any]] = [
        (path, overrides),
        (str(path), lines),
        (content, overrides),
        (load_config(path), lines),
        ({**content, "seed": 5, "tasks": ("negated",), "train": {**content["train"], "max_steps": 2}}, lines[2]),
    ]
    summaries = []
    for number, (config, given) in enumerate(forms):
        output = workspace / f"run{number}"
        given = (
            {**given, "output": output}
            if isinstance(given, dict)
            else [*([given] if isinstance(given, str) else given), f"output={output}"]
        )
        result = mt_dnn.train(config, given)
        assert result.folder == output and result.summary == json.loads((output / "summary.json").read_text())
        summaries.append({key: value for key, value in result.summary.items() if key != "name"})
    assert all(summary == summaries[0] for summary in summaries)
    assert result.results[0]["task"] == "negated" and str(result).splitlines()[2].startswith("negated (dev)")
    assert list(result.model("cpu").tasks) == ["negated"]


def test_a_single_override_is_a_list_of_one(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"override 'train\.max_stepps': unknown key .*did you mean 'train\.max_steps'"):
        mt_dnn.train(workspace / "run.yml", "train.max_stepps=2")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "run configuration: missing key"),
        ({"task_defs": "x", "droput": 3}, "run configuration: unknown key 'droput'|missing key"),
        ({"task_defs": object()}, "run configuration: "),
        ("none.yml", "none.yml: no such run file"),
        (None, r"config: give the path of a run file or its content \(got NoneType\)"),
    ],
)
def test_a_bad_configuration_is_one_line(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        mt_dnn.train(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("overrides", [None, 5, [1], [("seed", 1)]])
def test_bad_overrides_are_one_line(overrides: Any, workspace: Path) -> None:
    with pytest.raises(UserError, match=r"^overrides: give a dictionary by key, or a list of texts"):
        mt_dnn.train(workspace / "run.yml", overrides)


def test_a_folder_may_have_any_name(workspace: Path) -> None:
    output = workspace / "\N{GRINNING FACE}"
    result = mt_dnn.train(workspace / "run.yml", {"output": output, "tasks": ["negated"], "train.max_steps": 1})
    assert result.folder == output


def test_training_in_a_thread(workspace: Path) -> None:
    with ThreadPoolExecutor() as pool:
        result = pool.submit(mt_dnn.train, workspace / "run.yml", {"tasks": ["negated"], "train.max_steps": 1}).result()
    assert result.summary["steps"] == 1


def test_a_signal_stops_with_a_checkpoint_and_the_same_call_continues(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Stepper.__call__
    calls: list[int] = []

    def interrupted(self: Stepper, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *arguments, **options)

    monkeypatch.setattr(Stepper, "__call__", interrupted)
    with pytest.raises(TrainingStopped, match="stopped by SIGTERM and saved; the same call continues it"):
        mt_dnn.train(workspace / "run.yml", {"train.max_steps": 5})
    assert [path.name for path in (workspace / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    assert mt_dnn.train(workspace / "run.yml", {"train.max_steps": 5}).summary["steps"] == 5
    assert len(calls) == 5
