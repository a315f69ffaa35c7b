"""Settings that nothing in a run would read are refused, or named in a notice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_utils.errors import UserError
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from tests.parts import parts
from tests.workspace import make_workspace

SAME = "tasks=[same]"


def without_dev_labels(workspace: Path) -> None:
    for path in (workspace / "data").glob("*_dev.tsv"):
        header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        label = header.index("label")
        lines = [header, *([*row[:label], "", *row[label + 1 :]] for row in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))


def changed_task(workspace: Path, name: str, **fields: Any) -> None:
    defs = yaml.safe_load((workspace / "tasks.yml").read_text())
    defs[name] |= fields
    (workspace / "tasks.yml").write_text(yaml.safe_dump(defs))


REFUSED: list[tuple[Sequence[str], str]] = [
    (["train.batch_sizes={sam: 4}"], "train.batch_sizes: 'sam' is not a training task, did you mean 'same'"),
    ([SAME, "train.batch_sizes={overlap: 4}"], "train.batch_sizes: 'overlap' is not a training task"),
    (["train.mix_tasks=true"], "train.mix_tasks: has no effect here, because train.accumulate is 1; leave it out"),
    (["optimizer.weight_decay=0", "optimizer.no_decay=[embeddings]"], "optimizer.no_decay: .*weight_decay is 0"),
    (["optimizer.lookahead.enabled=false", "optimizer.lookahead.steps=2"], "lookahead.steps: .*enabled is false"),
    (["optimizer.lookahead.enabled=false", "optimizer.lookahead.alpha=0.9"], "lookahead.alpha: .*enabled is false"),
    (["encoder.sha256=ab", "train.init_from=nowhere"], "encoder.sha256: .* the weights come from train.init_from"),
    (["adversary.mode=none", "adversary.warm_start_steps=5"], "adversary.warm_start_steps: .* mode is none"),
    (
        ["adversary.mode=freelb", "adversary.warm_start_steps=9", "train.max_steps=9", SAME],
        "warm_start_steps: 9, but the run has 9 updates, so same would never be trained with freelb; lower it",
    ),
    (
        ["adversary.mode=none", "adversary.tasks.same={mode: vat, warm_start_steps: 50}", "train.max_steps=9"],
        "adversary.warm_start_steps: 50, but the run has 9 updates, so same would never be trained with vat",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_setting_that_another_one_makes_useless_is_refused(
    options: Sequence[str], message: str, workspace: Path
) -> None:
    with pytest.raises(UserError, match=message):
        Run(load_config(workspace / "run.yml", options))
    assert not (workspace / "run").exists()


def test_patience_needs_a_labelled_dev_split(workspace: Path) -> None:
    parts(workspace, "evaluation.patience=2")
    without_dev_labels(workspace)
    parts(workspace)  # the last model is taken
    with pytest.raises(UserError, match=r"evaluation\.patience: no training task has a labelled dev split"):
        parts(workspace, "evaluation.patience=2")


def test_the_mean_needs_a_single_number_of_each_task(workspace: Path) -> None:
    changed_task(workspace, "same", metrics=["confusion_matrix"])
    with pytest.raises(UserError, match=r"evaluation\.metric: task 'same' has no metric that is a single number"):
        parts(workspace)
    parts(workspace, "evaluation.metric=negated")


NOTICES: list[tuple[Sequence[str], str]] = [
    (["heads.san_steps=3"], "heads.san_steps: has no effect here, because no trained task has enable_san"),
    (["heads.san_prediction_dropout=0.3"], "heads.san_prediction_dropout: has no effect here"),
    (["data.stride=8"], "data.stride: has no effect here, because no task has texts that are cut into windows"),
    ([SAME, "sampling.strategy=uniform"], "sampling.strategy: has no effect here, because the run trains one task"),
    ([SAME, "train.accumulate=2", "train.mix_tasks=true"], "train.mix_tasks: has no effect here"),
    ([SAME, "train.batch_size=4", "train.batch_sizes={same: 8}"], "train.batch_size: has no effect here"),
    (["log.dropout_floor_every_steps=7"], "log.dropout_floor_every_steps: has no effect here"),
    (["tasks=[tagged]", "encoder.pooler=mean"], "encoder.pooler: has no effect here, because no head reads a pooled"),
    (
        ["tasks=[guessed]", "heads.dropout=0.3"],
        "heads.dropout: has no effect here, because no head of the run reads it",
    ),
    (["adversary.mode=r3f"], "adversary.mode: r3f has no regulariser for numbers, so overlap is trained without one"),
    (["adversary.mode=vat", "adversary.divergence=js"], "adversary.divergence: has no effect on overlap"),
    (["adversary.mode=tat", "adversary.tally=soft"], "adversary.tally: soft has no effect on overlap"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("unread"), more=["tagged", "guessed"]).parent


def settings_notices(workspace: Path, *options: str) -> list[str]:
    """The notices of a run, but for those on rows that dev and train share."""
    return [notice for notice in parts(workspace, *options).notices if not notice.endswith("training row")]


@pytest.mark.parametrize(("options", "notice"), NOTICES)
def test_a_setting_that_the_tasks_make_useless_is_named(options: Sequence[str], notice: str, shared: Path) -> None:
    tasks = [] if any(option.startswith("tasks=") for option in options) else ["tasks=[same, negated, overlap]"]
    found = settings_notices(shared, *tasks, *options)
    assert [line for line in found if line.startswith(notice)] == found and len(found) == 1


def test_settings_that_are_read_are_not_named(shared: Path) -> None:
    options = ["sampling.strategy=uniform", "data.stride=8", "train.batch_size=4", "train.batch_sizes={same: 8}"]
    options += ["adversary.mode=vat", "log.dropout_floor_every_steps=7", "encoder.pooler=mean", "heads.dropout=0.2"]
    assert settings_notices(shared, *options) == []


@pytest.mark.parametrize(
    ("task", "fields", "notice"),
    [
        ("same_hard", {"lr_scale": 2}, "same_hard: lr_scale has no effect, because it has no train split"),
        ("same_hard", {"loss_weight": 2}, "same_hard: loss_weight has no effect, because it has no train split"),
        (
            "overlap",
            {"constant_test_labels": True},
            "overlap: constant_test_labels has no effect, because it has no test",
        ),
    ],
)
def test_a_useless_key_of_a_task_is_named(task: str, fields: dict[str, Any], notice: str, workspace: Path) -> None:
    changed_task(workspace, task, **fields)
    assert [line[: len(notice)] for line in parts(workspace).notices] == [notice]


def test_soft_labels_that_are_not_used_are_named(tmp_path: Path) -> None:
    make_workspace(tmp_path, soft=True)
    (found,) = parts(tmp_path, SAME).notices
    assert found.endswith("same_train.tsv: its soft labels are not used; set distillation.weight to use them")
    assert parts(tmp_path, SAME, "distillation.weight=0.5").notices == []


def test_a_run_that_continues_is_not_checked_again(workspace: Path) -> None:
    """Or runs of earlier versions could not be continued."""
    Run(load_config(workspace / "run.yml", ["train.max_steps=4", "data.stride=8"]))()
    (line,) = parts(workspace, "train.max_steps=4", "data.stride=8").notices
    assert line.startswith("resuming")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["train.precision=bf16", "adversary.mode=vat"], "adversary.radius: 1e-05 is so small for same"),
        (["train.precision=fp16", "adversary.mode=r3f"], "adversary.epsilon: 1e-05 is so small for same"),
        (["train.precision=bf16", "adversary.mode=vat", "adversary.radius=0.01"], None),
        (["train.precision=bf16", "adversary.mode=vat", "adversary.radius=null"], None),
        (["train.precision=bf16", "adversary.mode=freelb", "adversary.radius=1e-5"], None),  # moves the clean pass too
        (["adversary.mode=vat"], None),
        (["train.precision=bf16", "adversary.mode=r3f", "tasks=[overlap]"], None),  # numbers have no regulariser
        (
            ["train.precision=bf16", "adversary.mode=vat", "tasks=[overlap]"],
            "adversary.radius: 1e-05 is so small for overl",
        ),
    ],
)
def test_a_notice_names_a_perturbation_that_rounding_hides(
    options: Sequence[str], said: str | None, workspace: Path
) -> None:
    found = [notice for notice in parts(workspace, SAME, *options).notices if "so small" in notice]
    assert len(found) == (said is not None) and (said is None or found[0].startswith(said))


def test_the_cpu_has_no_tf32(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"train.precision: tf32 is a number type of GPUs, .* use fp32"):
        parts(workspace, SAME, "train.precision=tf32")
