"""The JSON Schema accepts what the commands accept, and refuses what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from mt_dnn.runs.file_schema import file_schema
from tests import ROOT

RUN = {"task_defs": "t.yml", "data": {"dir": "d"}, "encoder": {"name": "e"}}
TASK = {"task_type": "classification", "data_format": "single"}
FILES = [
    path
    for path in sorted([*(ROOT / "task_defs").glob("*.yml"), *(ROOT / "experiments").rglob("*.yml")])
    if path.parent.name == "task_defs" or "\ntask_defs:" in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    Draft202012Validator.check_schema(file_schema())
    return Draft202012Validator(file_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_fit(schema: Draft202012Validator, path: Any) -> None:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert schema.is_valid(content), next(schema.iter_errors(content)).context


@pytest.mark.parametrize(
    "content",
    [
        RUN,
        {"extends": "base.yml"},
        {"extends": "base.yml", "data": {"max_length": 5}, "adversary": {"radius": 1.0}},
        {**RUN, "adversary": "preset:tat/paper"},
        {**RUN, "adversary": {"preset": "tat/paper", "weight": 2}},
        {**RUN, "adversary": "tat"},
        {"rte": TASK},
        {"extends": "base.yml", "rte": {"dropout": 0.1}, "new": TASK},
    ],
)
def test_what_fits(schema: Draft202012Validator, content: Any) -> None:
    assert schema.is_valid(content), next(schema.iter_errors(content)).context


@pytest.mark.parametrize(
    "content",
    [
        {**RUN, "data": {"max_length": 5}},
        {key: value for key, value in RUN.items() if key != "encoder"},
        {"extends": ["a.yml"], "data": {"max_length": 5}},
        {"extends": "base.yml", "dat": {"dir": "d"}},
        {"rte": {"dropout": 0.1}},
        {"extends": "base.yml", "rte": {"droput": 0.1}},
    ],
)
def test_what_does_not_fit(schema: Draft202012Validator, content: Any) -> None:
    assert not schema.is_valid(content)
