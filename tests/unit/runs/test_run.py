"""A run does no work twice."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from mt_dnn.runs import evaluate
from mt_dnn.runs import run as run_module
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run


@pytest.mark.parametrize(
    "options",
    [
        (),  # the best model is the last one, or one of an earlier epoch
        ("optimizer.lr=1e-9", "train.epochs=3"),  # every model is as good, so the first stays the best
        ("evaluation.metric=null",),
        ("evaluation.metric=loss", "train.epochs=2"),
    ],
)
def test_no_model_is_evaluated_twice_on_the_same_rows(
    options: tuple[str, ...], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: Counter[Any] = Counter()
    row_outputs = evaluate.row_outputs

    def counted(model: Any, task: str, split: Any, *args: Any, **kwargs: Any) -> Any:
        weights = sum(parameter.detach().double().sum().item() for parameter in model.parameters())
        evaluated[split.manifest["source"], weights] += 1
        return row_outputs(model, task, split, *args, **kwargs)

    monkeypatch.setattr(evaluate, "row_outputs", counted)
    run = Run(load_config(workspace / "run.yml", ["tasks=[same]", "train.epochs=1", *options]))
    torch.manual_seed(0)
    summary = run()
    assert isinstance(summary, dict) and summary["results"]
    assert set(evaluated.values()) == {1}, evaluated


def test_a_plan_that_ends_too_early_is_no_success(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(*args: Any, **kwargs: Any) -> Any:
        return islice(train(*args, **kwargs), 2)

    train = run_module.train
    monkeypatch.setattr(run_module, "train", half)
    run = Run(load_config(workspace / "run.yml", ["tasks=[same]", "train.epochs=1"]))
    with pytest.raises(RuntimeError, match="the plan ended after update 2 of "):
        run()
    assert not (run.folder / "summary.json").exists()
