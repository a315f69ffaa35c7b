"""Several tasks train one head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.batches.collate import collate
from mt_dnn.cli.evaluate import evaluate
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.evaluate import dev_splits
from mt_dnn.runs.run import Run
from mt_dnn.runs.start import Parts
from tests.end_to_end.test_adversarial_runs import CutError, cut_at
from tests.parts import parts
from tests.unit.training.test_step import OPTIONS
from tests.workspace import make_workspace

TASKS = "tasks=[renamed,same]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "renamed" has the training rows of "same" with other names of labels."""
    folder = tmp_path_factory.mktemp("shared")
    make_workspace(folder, more=["renamed"])
    rows = (folder / "data" / "same_train.tsv").read_text(encoding="utf-8")
    (folder / "data" / "renamed_train.tsv").write_text(rows.replace("\tdifferent\t", "\tother\t"), encoding="utf-8")
    return folder


def build(folder: Path, *options: str) -> Parts:
    return parts(folder, TASKS, *options)


def run_of(folder: Path, *options: str) -> Run:
    return Run(load_config(folder / "run.yml", [TASKS, *options]))


def after_update(folder: Path, *batches: tuple[str, list[int]]) -> dict[str, Tensor]:
    run = build(folder, *OPTIONS, "optimizer.lr=1")
    run.stepper([collate(run.train_splits[task], rows, task=task) for task, rows in batches])
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


def test_rows_of_both_tasks_train_the_head_as_if_they_were_of_one(folder: Path) -> None:
    together = after_update(folder, ("same", [0, 1, 2]), ("renamed", [3, 4, 5, 6, 7]))
    alone = after_update(folder, ("same", [0, 1, 2, 3, 4, 5, 6, 7]))
    only = after_update(folder, ("same", [0, 1, 2]))
    assert {name.split(".")[1] for name in together if name.startswith("heads.")} == {"same"}
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=1e-6, rtol=0)
    assert not torch.allclose(only["heads.same.linear.weight"], alone["heads.same.linear.weight"], atol=1e-4)


def test_a_run_scores_both_and_is_continued_exactly(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["adversary.mode=tat", "checkpoint.every_steps=4", "evaluation.metric=null", "optimizer.lr=5e-3"]
    whole = run_of(folder, f"output={folder / 'whole'}", *options)
    summary: Any = whole()
    with monkeypatch.context() as patch:
        cut_at(patch, 10)
        with pytest.raises(CutError):
            run_of(folder, f"output={folder / 'cut'}", *options)()
    cut = run_of(folder, f"output={folder / 'cut'}", *options)
    assert cut.parts.progress.position.step == 8 and cut() == summary
    one, other = (last_checkpoint(folder / name) for name in ("whole", "cut"))
    assert one is not None and other is not None
    for file in ("encoder/model.safetensors", "heads.safetensors", "trainer/optimizer.safetensors"):
        left, right = load_file(one / file), load_file(other / file)
        assert left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)
    assert {name.name for name in (folder / "whole" / "adversary").iterdir()} == {
        f"{task}-epoch-{epoch:03d}.json" for task in ("same", "renamed") for epoch in (1, 2)
    }
    scored = {result["task"] for result in summary["results"]}
    assert scored == {"same", "renamed", "same_hard"}
    lines = (folder / "whole" / "predictions" / "renamed_dev.jsonl").read_text().splitlines()
    assert {json.loads(line)["prediction"] for line in lines} <= {"other", "same"}
    capsys.readouterr()
    evaluate(folder / "whole", split=None, task=None, data=None, task_defs=None, as_json=True)
    assert json.loads(capsys.readouterr().out) == summary["results"]


def test_the_other_task_is_only_scored_where_it_is_not_trained(folder: Path) -> None:
    run = run_of(folder, "tasks=[same]", "train.max_steps=1", f"output={folder / 'one'}")
    assert ("renamed", "dev") in run.parts.splits and ("renamed", "train") not in run.parts.splits
    summary: Any = run()
    assert "renamed" in {result["task"] for result in summary["results"]}


def test_the_head_has_to_be_trained_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tasks\.yml: tasks: renamed: trains the head of 'same', which has to be a"):
        build(folder, "tasks=[renamed]")
    (folder / "data" / "same_train.tsv").rename(tmp_path / "same_train.tsv")
    try:
        with pytest.raises(UserError, match=r"data: renamed: trains the head of 'same'"):
            parts(folder)
    finally:
        (tmp_path / "same_train.tsv").rename(folder / "data" / "same_train.tsv")


def test_modes_that_change_the_head_are_those_of_all_its_tasks(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"^adversary\.tasks: renamed and same share a head, and of the modes none and r4f one changes"
    ):
        build(folder, "adversary.mode=r4f", "adversary.tasks.renamed.mode=none")
    run = build(folder, "adversary.mode=r4f")
    head: Any = run.model.heads["same"]
    run.stepper([collate(run.train_splits["renamed"], [0, 1], task="renamed")])
    assert len(head.linear.parametrizations.weight) == 1


def test_owners_of_heads_are_scored_first(folder: Path) -> None:
    """They may tune the threshold that the others read."""
    run = build(folder)
    defs = {name: run.tasks.evaluated[name] for name in ("renamed", "same")}
    splits = {(name, "dev"): run.splits[name, "dev"] for name in defs}
    assert list(dev_splits(defs, splits)) == [("same", "dev"), ("renamed", "dev")]
