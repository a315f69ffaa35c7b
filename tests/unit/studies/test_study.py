"""Study files: strict, and every error names file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_utils.errors import UserError
from mt_dnn.studies.study import load_study
from tests.study_files import write_study

AXES = {"task": ["negated", ["same", "overlap"]], "optimizer.lr": [0.001, 0.01]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": {}}, "study.yml: unknown key 'axis', did you mean 'axes'?"),
        ({"base": None}, "study.yml: base: "),
        ({"axes": {"task": []}}, "study.yml: axes: task: give at least one value"),
        ({"axes": {"task": ["rte", "rte"]}}, "study.yml: axes: task: a value is listed twice"),
        ({"axes": AXES, "select": {"over": ["lr"]}}, "study.yml: select: over: no axis 'lr'"),
        ({"axes": AXES, "select": {"over": ["task"], "share": 0.9}}, "study.yml: select.share: "),
        ({"axes": AXES, "select": {"over": ["task"], "seed": 1}}, "study.yml: select.seed: "),
        (
            {"axes": AXES, "leave_out": [{"task": "negatd"}]},
            "study.yml: leave_out: task: no label 'negatd', did you mean",
        ),
        (
            {"axes": AXES, "cells": [{"when": {"tsk": "x"}, "set": {}}]},
            "study.yml: cells: when: no axis 'tsk', did you",
        ),
        ({"axes": AXES, "show": {"rows": "method"}}, "study.yml: show: no axis 'method'"),
        ({"show": {"columns": ["a b"]}}, "study.yml: show.columns: 'a b' is no score"),
        ({"seeds": 0}, "study.yml: seeds"),
        ({"keep": "all"}, "study.yml: keep: "),
        ({"seeds": []}, "study.yml: seeds: give a number, or a list of different numbers"),
        ({"seeds": [1, 1]}, "study.yml: seeds: give a number, or a list of different numbers"),
        ({"seeds": True}, "study.yml: seeds: give a number, or a list of different numbers"),
        ({"seeds": "x"}, "study.yml: seeds: Input should be a"),
        ({"axes": {"optimizer.lr": 3}}, "study.yml: axes.optimizer.lr: Input should be a list"),
        ({"axes": {"m": {"x": 3}}}, "study.yml: axes.m.x: Input should be a mapping"),
        ({"axes": AXES, "select": {"over": ["task"], "seeds": [1, 1]}}, "study.yml: select.seeds: give a number"),
        ({"axes": AXES, "select": {"over": ["task"], "metric": "a b c"}}, "select.metric: 'a b c' is no score"),
        ({"axes": AXES, "select": {"over": ["task"], "metric": "a/dev"}}, "select.metric: 'a/dev' names a split"),
        ({"axes": AXES, "cells": [{"when": {}, "set": {}}]}, "study.yml: cells.0.when: "),
        ({"settings": {"seed": 3}}, "study.yml: settings: seed: the study sets it; use the study's key seeds"),
        ({"axes": {"m": {"x": {"output": "y"}}}}, "study.yml: axes.m: output: the sweep names run folders itself"),
        ({"axes": {"seed": [1, 2]}}, "study.yml: axes: seed: the study sets it"),
        ({"search": {"keys": {"optimizer.lr": []}}}, "search.keys: optimizer.lr: give at least one value"),
        ({"search": {"keys": {"optimizer.lr": {"lo": 1, "high": 2}}}}, "missing key 'search.keys.optimizer.lr.low'"),
        ({"show": {"values": "time_ratio"}}, "study.yml: show: time_ratio needs show.reference"),
        ({"axes": AXES, "show": {"rows": "task", "columns": "task"}}, "show: task: is given as rows and as columns"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_study(write_study(tmp_path, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("key", ["title", "base", "axes"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    file = write_study(tmp_path)
    values = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({name: value for name, value in values.items() if name != key}))
    with pytest.raises(UserError, match=f"study.yml: missing key '{key}'"):
        load_study(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "a study file is a mapping"), ("a: [", "not readable as YAML"), (None, "no such study file")],
)
def test_a_file_that_is_no_study_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "study.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_study(file)


def test_a_profile_replaces_settings_and_axes_key_by_key_and_other_keys_as_they_are(tmp_path: Path) -> None:
    profile = {
        "settings": {"data.max_rows": 500, "train.epochs": None},
        "axes": {"optimizer.lr": [5e-5], "method": None},
        "seeds": [4, 5],
    }
    axes = {"method": {"plain": {}}, **AXES}
    file = write_study(tmp_path, axes=axes, seeds=2, profiles={"cpu": profile})
    study = load_study(file, "cpu")
    assert study.settings == {"tasks": ["negated"], "log.every_steps": 3, "data.max_rows": 500}
    assert study.axes == {"task": ("negated", ["same", "overlap"]), "optimizer.lr": (5e-5,)}
    assert study.seed_list == (4, 5)
    assert load_study(file).seed_list == (1, 2)


@pytest.mark.parametrize(
    ("profiles", "name", "message"),
    [
        ({"cpu": {}}, "cpuu", "profiles: no profile 'cpuu', did you mean 'cpu'?; known: cpu"),
        ({"cpu": 3}, "cpu", "profiles: write a mapping"),
        ({"cpu": {"axes": [1]}}, "cpu", "profiles.cpu: axes: write a mapping"),
        ({"cpu": {"sets": {}}}, "cpu", "unknown key 'sets', did you mean 'settings'?"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path: Path, profiles: Any, name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_study(write_study(tmp_path, profiles=profiles), name)
    assert message in str(caught.value)


def test_numbers_are_read_as_in_run_files(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text() + "\nselect: {over: [optimizer.lr]}\n")
    file.write_text(file.read_text().replace("method:", "optimizer.lr: [5e-5, 1e-4]\n  method:"))
    assert load_study(file).axes["optimizer.lr"] == (5e-5, 1e-4)
