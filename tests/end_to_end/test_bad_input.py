"""Bad input gives one line that names the place, exit code 2, and nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mt_dnn.cli.main import main
from mt_dnn.runs.checkpoints import last_checkpoint
from tests.forks import Command, run_command
from tests.tiny import tiny_encoder, tiny_tokenizer
from tests.workspace import TASK_DEFS, make_workspace, rows_of, write_task

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line on stderr of a command that must exit with 2."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mt-dnn: ")]
    assert exit_.value.code == 2
    assert len(errors) == 1, errors
    return errors[0]


def train(capsys: Capture, workspace: Path, *overrides: str) -> str:
    """The line of a refused training run, which must not have made its run folder."""
    line = refused(capsys, "train", str(workspace / "run.yml"), *overrides)
    assert not (workspace / "run").exists()
    return line


def edit_tasks(workspace: Path, task: str, **changes: object) -> None:
    defs = {**TASK_DEFS, task: {**TASK_DEFS[task], **changes}}
    (workspace / "tasks.yml").write_text(yaml.safe_dump(defs, sort_keys=False), encoding="utf-8")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def unknown_task_key(workspace: Path) -> None:
    edit_tasks(workspace, "same", droput=0.1)


def yaml_yes_label(workspace: Path) -> None:
    replace(workspace / "tasks.yml", "'yes'", "yes")


def duplicate_task(workspace: Path) -> None:
    with (workspace / "tasks.yml").open("a", encoding="utf-8") as stream:
        stream.write("same:\n  task_type: classification\n  data_format: pair\n  n_class: 2\n")


def wrong_metric(workspace: Path) -> None:
    edit_tasks(workspace, "overlap", metrics=["accuracy"])


def regression_with_labels(workspace: Path) -> None:
    edit_tasks(workspace, "overlap", labels=["low", "high"])


def bad_row(line: int, column: int, value: str, task: str = "same") -> Callable[[Path], None]:
    def damage(workspace: Path) -> None:
        file = workspace / "data" / f"{task}_train.tsv"
        lines = [row.split("\t") for row in file.read_text(encoding="utf-8").splitlines()]
        lines[line - 1][column] = value
        file.write_text("".join("\t".join(row) + "\n" for row in lines), encoding="utf-8")

    return damage


def missing_column(workspace: Path) -> None:
    rows: list[tuple[str, ...]] = [row[:3] for row in rows_of("same", 8, 1)]
    write_task(workspace / "data", "same", "train", rows)


def empty_file(workspace: Path) -> None:
    (workspace / "data" / "same_train.tsv").write_text("")


def unlabelled(workspace: Path) -> None:
    rows = [(uid, "", *texts) for uid, _, *texts in rows_of("same", 8, 1)]
    write_task(workspace / "data", "same", "train", rows)


def not_utf8(workspace: Path) -> None:
    with (workspace / "data" / "same_train.tsv").open("ab") as stream:
        stream.write(b"99\tsame\tcaf\xe9\tthe dog\n")


def missing_file(workspace: Path) -> None:
    (workspace / "data" / "same_train.tsv").unlink()


def other_tokenizer(workspace: Path) -> None:
    shutil.rmtree(workspace / "encoder")
    tiny_encoder(workspace / "encoder", vocab_size=40)


BROKEN_FILES = [
    (unknown_task_key, ["tasks.yml", "same", "droput", "did you mean 'dropout'"]),
    (yaml_yes_label, ["tasks.yml", "negated", "labels", "quote"]),
    (duplicate_task, ["tasks.yml", "same", "twice"]),
    (wrong_metric, ["tasks.yml", "overlap", "accuracy", "regression"]),
    (regression_with_labels, ["tasks.yml", "overlap", "labels"]),
    (bad_row(3, 1, "smae"), ["same_train.tsv", "3", "smae", "did you mean 'same'"]),
    (bad_row(4, 3, "one\ttoo many"), ["same_train.tsv", "4", "5", "4"]),
    (bad_row(2, 1, "nan", "overlap"), ["overlap_train.tsv", "2", "nan"]),
    (bad_row(2, 1, "7.5", "overlap"), ["overlap_train.tsv", "2", "7.5"]),
    (missing_column, ["same_train.tsv", "hypothesis"]),
    (empty_file, ["same_train.tsv", "empty"]),
    (unlabelled, ["same_train.tsv", "no labels"]),
    (not_utf8, ["same_train.tsv", "50", "UTF-8"]),
    (other_tokenizer, ["encoder.tokenizer", "40"]),
]


@pytest.mark.parametrize(("damage", "words"), BROKEN_FILES, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_file(workspace: Path, capsys: Capture, damage: Callable[[Path], None], words: list[str]) -> None:
    damage(workspace)
    line = train(capsys, workspace)
    for word in words:
        assert word in line


BAD_OVERRIDES = [
    (["optimzer.lr=1e-4"], ["optimzer", "did you mean 'optimizer'"]),
    (["optimizer.lrr=1e-4"], ["optimizer.lrr", "did you mean 'optimizer.lr'"]),
    (["train.precision=fp8"], ["train.precision", "bf16"]),
    (["encoder.name=/no/such/encoder"], ["/no/such/encoder"]),
    (["data.max_length=5000"], ["data.max_length", "5000", "positions"]),
    (["tasks=[smae]"], ["smae", "did you mean 'same'"]),
    (["evaluation.metric=same_hard"], ["evaluation.metric", "same_hard", "dev"]),
    (["evaluation.metric=same.mcc"], ["evaluation.metric", "mcc", "accuracy"]),
    (["sampling.strategy=weights", "sampling.weights={same: 1}"], ["sampling.weights", "negated"]),
    (["optimizer.freeze=[layers:7-9]"], ["optimizer.freeze", "layers:7-9"]),
    (["device=cuda:31"], ["device", "cuda:31"]),
    (["device=meta"], ["device", "'meta' is not available here"]),
    (["encoder.sha256=abc"], ["model.safetensors", "sha256"]),
    (["seed"], ["seed", "key=value"]),
]


@pytest.mark.parametrize(("overrides", "words"), BAD_OVERRIDES, ids=lambda value: value[0])
def test_bad_override(workspace: Path, capsys: Capture, overrides: list[str], words: list[str]) -> None:
    line = train(capsys, workspace, *overrides)
    for word in words:
        assert word in line


def test_missing_train_file_of_a_task_asked_for(workspace: Path, capsys: Capture) -> None:
    missing_file(workspace)
    assert "same_train.tsv" in train(capsys, workspace, "tasks=[same,negated]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_workspace(folder)
    main_ok("train", str(folder / "run.yml"), "train.max_steps=3")
    return folder


def main_ok(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert exit_.value.code == 0


def test_run_folder_of_another_config(trained: Path, capsys: Capture) -> None:
    line = refused(capsys, "train", str(trained / "run.yml"), "train.max_steps=3", "optimizer.lr=1e-2")
    assert "optimizer.lr" in line and "0.001" in line and "0.01" in line


def test_run_folder_of_other_task_definitions(workspace: Path, capsys: Capture) -> None:
    main_ok("train", str(workspace / "run.yml"), "train.max_steps=2")
    edit_tasks(workspace, "negated", dropout=0.5)
    line = refused(capsys, "train", str(workspace / "run.yml"), "train.max_steps=2")
    assert "another definition of negated" in line


def test_test_split_without_labels_asked_for_metrics(trained: Path, capsys: Capture) -> None:
    line = refused(capsys, "evaluate", str(trained / "run"), "--task", "same", "--split", "test")
    assert "same_test.tsv" in line and "no labels" in line


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (
            {"same": {**TASK_DEFS["same"], "labels": ["same", "different"]}},
            "same: labels differs from the trained run; copy its value from the run's task_defs.yml",
        ),
        ({"other": TASK_DEFS["same"]}, "no task here fits the run; use one of its tasks (same, negated, overlap)"),
    ],
)
def test_task_definitions_that_do_not_fit_the_heads(
    trained: Path, tmp_path: Path, capsys: Capture, tasks: dict[str, Any], said: str
) -> None:
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump(tasks))
    line = refused(capsys, "evaluate", str(trained / "run"), "--task-defs", str(tmp_path / "tasks.yml"))
    assert f"tasks.yml: {said}" in line


def test_folder_without_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    assert "no checkpoint" in refused(capsys, "evaluate", str(tmp_path))


def copy_of(trained: Path, tmp_path: Path) -> Path:
    checkpoint = last_checkpoint(trained / "run")
    assert checkpoint is not None
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.mark.parametrize("file", ["encoder/model.safetensors", "heads.safetensors"])
def test_damaged_checkpoint(trained: Path, tmp_path: Path, capsys: Capture, file: str) -> None:
    checkpoint = copy_of(trained, tmp_path)
    whole = (checkpoint / file).read_bytes()
    (checkpoint / file).write_bytes(whole[: len(whole) // 2])
    line = refused(capsys, "evaluate", str(checkpoint))
    assert str(checkpoint) in line


def test_damaged_trainer_state_refuses_to_resume(workspace: Path, capsys: Capture) -> None:
    main_ok("train", str(workspace / "run.yml"), "train.max_steps=2")
    checkpoint = last_checkpoint(workspace / "run")
    assert checkpoint is not None
    (checkpoint / "trainer" / "state.json").write_text("{")
    assert "state.json" in refused(capsys, "train", str(workspace / "run.yml"), "train.max_steps=2")


def test_checkpoint_of_other_heads(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    checkpoint = copy_of(trained, tmp_path)
    defs = {
        **TASK_DEFS,
        "same": {**TASK_DEFS["same"], "labels": ["different", "same", "unsure"], "metrics": ["accuracy"]},
    }
    mapped = {"different": "other", "same": "same", "unsure": "other"}
    defs["same_hard"] = {**defs["same_hard"], "label_map": mapped}
    (checkpoint / "task_defs.yml").write_text(yaml.safe_dump(defs, sort_keys=False), encoding="utf-8")
    line = refused(capsys, "evaluate", str(checkpoint))
    assert "heads.safetensors" in line and "heads.same" in line


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "CHECKPOINT", "--data", "DATA"),
        ("predict", "CHECKPOINT", "--task", "same", "--input", "ROWS"),
        ("distill", "CHECKPOINT", "--data", "DATA", "--output", "OUTPUT"),
    ],
    ids=lambda command: command[0],
)
def test_device_of_the_run_is_not_on_this_machine(
    trained: Path, tmp_path: Path, capsys: Capture, command: tuple[str, ...]
) -> None:
    checkpoint = copy_of(trained, tmp_path)
    config = yaml.safe_load((checkpoint / "config.yml").read_text())
    (checkpoint / "config.yml").write_text(yaml.safe_dump({**config, "device": "cuda:77"}, sort_keys=False))
    (tmp_path / "rows.txt").write_text("red blue\tred blue\n")
    names = {
        "CHECKPOINT": checkpoint,
        "DATA": trained / "data",
        "ROWS": tmp_path / "rows.txt",
        "OUTPUT": tmp_path / "o",
    }
    arguments = [str(names.get(part, part)) for part in command]
    line = refused(capsys, *arguments)
    assert "device: 'cuda:77' is not available here" in line and "--device" in line
    main_ok(*arguments, "--device", "cpu")


def run_on_a_full_disk(arguments: Sequence[str]) -> None:
    limit = 100_000  # bytes; the tiny encoder fits under it, its optimizer state does not
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run_command(arguments)


def test_full_disk_while_saving_keeps_the_old_checkpoint(workspace: Path) -> None:
    """A limit on file size stands for the full disk: writes fail in the same place with an OSError."""
    train = ["train", str(workspace / "run.yml"), "checkpoint.every_steps=2"]
    main_ok(*train, "train.max_steps=2")
    config = workspace / "run" / "config.yml"
    config.write_text(config.read_text().replace("max_steps: 2", "max_steps: 4"))
    state = last_checkpoint(workspace / "run")
    assert state is not None
    progress = state / "trainer" / "state.json"
    progress.write_text(progress.read_text().replace('"finished": true', '"finished": false'))
    second = Command([*train, "train.max_steps=4"], {**os.environ, "OMP_NUM_THREADS": "1"}, run=run_on_a_full_disk)
    _, errors = second.communicate(timeout=240)
    assert second.returncode == 1, errors
    assert "checkpoint not written" in errors
    assert sorted(path.name for path in (workspace / "run" / "checkpoints").iterdir()) == ["step-00000002"]


def test_predict_names_unknown_task_and_wrong_fields(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "input.txt"
    source.write_text("only one sentence\n")
    line = refused(capsys, "predict", str(trained / "run"), "--input", str(source))
    assert line.startswith("mt-dnn: --task: ") and "give one of same (pair), negated (single), overlap (" in line
    line = refused(capsys, "predict", str(trained / "run"), "--task", "smae", "--input", str(source))
    assert "smae" in line and "did you mean 'same'" in line
    output = tmp_path / "out.jsonl"
    command = ("predict", str(trained / "run"), "--task", "same", "--input", str(source), "--output", str(output))
    assert f"{source}:1" in refused(capsys, *command)
    assert not output.exists()


def test_output_that_cannot_be_written(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "input.txt"
    source.write_text("the dog\tthe dog\n")
    command = ("predict", str(trained / "run"), "--task", "same", "--input", str(source))
    assert f"{tmp_path}: cannot be written" in refused(capsys, *command, "--output", str(tmp_path))
    rows = pa.table({"premise": ["A"], "hypothesis": ["B"], "label": ["entails"]})
    (tmp_path / "tsv_format").mkdir()
    pq.write_table(rows, tmp_path / "tsv_format" / "train-0.parquet")
    options = ("--tasks", "scitail", "--source", str(tmp_path), "--output", str(source))
    assert f"{source}: cannot be written" in refused(capsys, "data", "nli", *options)


def test_names_of_data_may_have_blanks_and_are_checked_first(tmp_path: Path, capsys: Capture) -> None:
    line = refused(capsys, "data", "nli", "--tasks", "snli, scitail, hnas", "--source", str(tmp_path))
    assert "unknown key 'hnas', did you mean 'hans'" in line


def test_tokenizer_of_another_family(workspace: Path, tmp_path: Path, capsys: Capture) -> None:
    tiny_tokenizer(tmp_path / "more", extra_words=[f"word{i}" for i in range(500)])
    assert "do not belong together" in train(capsys, workspace, f"encoder.tokenizer={tmp_path / 'more'}")
