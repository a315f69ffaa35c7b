"""From teachers to a smaller student: ``mt-dnn distill``, rows with soft labels, a run on them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from data_utils.prepared import Prepared
from data_utils.rows import read_rows
from data_utils.task_def import load_task_defs
from mt_dnn.batches.collate import collate
from mt_dnn.cli.main import main
from mt_dnn.inference import distill
from mt_dnn.inference.trained import load
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from tests.parts import parts
from tests.workspace import TEACHABLE, make_workspace

TASKS = ("negated", "overlap", *TEACHABLE)
Capture = pytest.CaptureFixture[str]


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def refused(capsys: Capture, *arguments: object) -> str:
    assert command(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mt-dnn: ")]
    return line


def trained(folder: Path, output: str, *options: str) -> Any:
    summary = Run(load_config(folder / "run.yml", [f"output={folder / output}", *options]))()
    assert isinstance(summary, dict)
    return {result["task"]: result["scores"] for result in summary["results"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two teachers of every task type, the second of other tokens and windows, and what both think of 20 rows each."""
    folder = tmp_path_factory.mktemp("distillation")
    make_workspace(folder, train_rows=48, more=[*TEACHABLE, "guessed"])
    options = [f"tasks=[{','.join([*TASKS, 'guessed'])}]", "train.epochs=1"]  # a masked language model teaches nothing
    trained(folder, "one", *options)
    trained(folder, "two", *options, "seed=2", "data.max_length=16", "data.stride=4", "encoder.blocks=[1]")
    teachers = (folder / "one", folder / "two")
    for name, runs in (("soft", teachers), ("first", teachers[:1]), ("second", teachers[1:])):
        arguments = ("distill", *runs, "--data", folder / "data", "--output", folder / name, "--max-rows", 20)
        assert command(*arguments) == 0
    return folder


def prepared(folder: Path, data: str) -> Iterator[tuple[str, Prepared]]:
    options = [f"data.dir={folder / data}", f"output={folder / 'none'}", f"tasks=[{','.join(TASKS)}]"]
    yield from parts(folder, *options).train_splits.items()


def test_rows_stay_as_they_are_beside_their_soft_labels(folder: Path) -> None:
    defs = load_task_defs(folder / "tasks.yml")
    for task in TASKS:
        lines, own = ((folder / part / f"{task}_train.tsv").read_text().splitlines() for part in ("soft", "data"))
        assert [line.rpartition("\t")[0] for line in lines] == own[:21]
        assert lines[0].endswith("\tsoft_label")
        assert read_rows(folder / "soft" / f"{task}_train.tsv", defs[task]).soft is not None
        assert (folder / "soft" / f"{task}_dev.tsv").read_bytes() == (folder / "data" / f"{task}_dev.tsv").read_bytes()
    assert not list((folder / "soft").glob("same*"))  # which they were not trained on


def test_a_teacher_says_what_it_predicts(folder: Path) -> None:
    """The soft labels of one teacher are its probabilities with dropout off, on the same tokens."""
    model = load(folder / "one").model
    for task, split in prepared(folder, "first"):
        batch = collate(split, range(len(split)), task=task)
        with torch.no_grad():
            logits = model(batch)
        if task == "found":
            continue  # the best spans alone are written
        expected = logits.double() if task == "overlap" else logits.softmax(1)
        torch.testing.assert_close(batch.soft, expected, atol=1e-5, rtol=1e-5)


def test_spans_are_the_teachers_best(folder: Path) -> None:
    for row in (folder / "second" / "found_train.tsv").read_text().splitlines()[1:]:
        *_, context, soft = row.split("\t")
        spans = json.loads(soft)
        assert 1 < len(spans) <= 20 and sum(p for *_, p in spans) == pytest.approx(1, abs=1e-4)
        assert all(context[start:end] == context[start:end].strip() != "" for start, end, _ in spans)


def test_two_teachers_speak_with_one_voice(folder: Path) -> None:
    """Also where they see other windows of a text; spans are those of either."""
    splits = [dict(prepared(folder, name)) for name in ("soft", "first", "second")]
    for task in TASKS:
        both, one, other = (collate(own[task], range(len(own[task])), task=task).soft for own in splits)
        assert both is not None and one is not None and other is not None and not torch.equal(one, other)
        torch.testing.assert_close(both, (one + other) / 2, atol=1e-5, rtol=1e-5)


def test_a_student_learns_from_teachers_alone(folder: Path) -> None:
    """With weight 1 gold labels that are wrong do no harm; the student keeps one block, and transformers loads it."""
    data = folder / "wrong"
    options = ["tasks=[odd]", "train.epochs=8", "optimizer.lr=5e-3"]
    options += ["evaluation.metric=null"]  # the last model, which is sure of itself
    student = [*options, "encoder.blocks=[0]", f"data.dir={data}"]
    assert trained(folder, "teacher", *options)["odd"]["accuracy"] > 0.9
    assert command("distill", folder / "teacher", "--data", folder / "data", "--output", data) == 0
    path = data / "odd_train.tsv"
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    wrong = [[uid, "2" if label == "1" else "1", *rest] for uid, label, *rest in lines]
    path.write_text("".join("\t".join(line) + "\n" for line in [header, *wrong]))
    taught = trained(folder, "student", *student, "distillation={weight: 1, temperature: 2}")
    misled = trained(folder, "misled", *student)
    assert taught["odd"]["accuracy"] > 0.8 and misled["odd"]["accuracy"] < 0.3
    encoder = AutoModel.from_pretrained(next((folder / "student" / "checkpoints").iterdir()) / "encoder")
    assert encoder.config.num_hidden_layers == len(encoder.encoder.layer) == 1
    assert command("evaluate", folder / "student", "--data", folder / "data") == 0


def unlabelled(folder: Path, data: str, output: Path) -> Path:
    """Copies a data folder and leaves the labels of its training rows out."""
    shutil.copytree(folder / data, output, ignore=shutil.ignore_patterns("prepared"))
    for path in output.glob("*_train.tsv"):
        header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        rows = [header, *([uid, "", *rest] for uid, _, *rest in lines)]
        path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return output


def test_texts_that_nobody_has_labelled_teach_the_same(folder: Path, tmp_path: Path) -> None:
    """In every task type: gold labels have no part in soft labels, nor in a loss on soft labels alone."""
    data = unlabelled(folder, "data", tmp_path / "data")
    arguments = ("--data", data, "--output", tmp_path / "soft", "--max-rows", 20, "--tasks", ",".join(TASKS))
    assert command("distill", folder / "one", *arguments) == 0
    options = [f"tasks=[{','.join(TASKS)}]", "train.epochs=1", "distillation.weight=1", "adversary.mode=vat"]
    options += ["log.dropout_floor_every_steps=null", "data.max_rows=8"]  # one update of each type
    trained(folder, "labelled", *options, f"data.dir={folder / 'first'}")
    trained(folder, "texts", *options, f"data.dir={tmp_path / 'soft'}")
    labelled, texts = (load(folder / run).model.state_dict() for run in ("labelled", "texts"))
    assert [name for name in labelled if not torch.equal(labelled[name], texts[name])] == []


def test_rows_without_labels_need_the_weight_1_and_no_right_answers(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = unlabelled(folder, "first", tmp_path / "data")
    run = ("train", folder / "run.yml", f"output={tmp_path / 'run'}", f"data.dir={data}", "tasks=[odd]")
    line = refused(capsys, *run, "distillation.weight=0.5")
    assert f"{data / 'odd_train.tsv'}: has no labels, only soft ones; set distillation.weight=1" in line
    assert "has no labels, only soft ones" in refused(capsys, *run)
    line = refused(capsys, *run, "distillation.weight=1", "adversary.mode=tat")
    assert "has no labels, and tat needs the right answers; use vat, or label the rows" in line
    plain = unlabelled(folder, "data", tmp_path / "plain")
    assert "has no labels, so no task can be trained" in refused(capsys, *run, f"data.dir={plain}")
    assert not (tmp_path / "run").exists()


def test_soft_labels_without_a_weight_are_not_read(folder: Path) -> None:
    scores = [
        trained(folder, f"plain-{data}", f"data.dir={folder / data}", "tasks=[negated,marks]", "data.max_rows=20")
        for data in ("soft", "data")
    ]
    assert scores[0] == scores[1]


def test_a_teacher_that_was_trained_on_some_rows_answers_for_all(folder: Path, tmp_path: Path) -> None:
    options = ("tasks=[negated]", "data.max_rows=20", "data.sample=true", "data.carve=0.2", "data.held_out=10")
    trained(folder, "few", *options, "train.max_steps=1")
    assert command("distill", folder / "few", "--data", folder / "data", "--output", tmp_path) == 0
    task = load_task_defs(folder / "tasks.yml")["negated"]
    given = read_rows(folder / "data" / "negated_train.tsv", task)
    taught = read_rows(tmp_path / "negated_train.tsv", task)
    assert taught.uid == given.uid
    assert taught.soft is not None and all(soft is not None for soft in taught.soft)


def test_teachers_that_cannot_be_asked(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    data, output = folder / "data", tmp_path / "out"
    ask = ("distill", folder / "one", "--output", output, "--data")
    line = refused(capsys, *ask, data, "--tasks", "odd,negatd")
    assert "--tasks: no run can teach 'negatd', did you mean 'negated'?" in line
    assert f"{tmp_path / 'odd_train.tsv'}: no such file" in refused(capsys, *ask, tmp_path, "--tasks", "odd")
    assert f"{tmp_path}: no training rows for any of negated, overlap" in refused(capsys, *ask, tmp_path)
    assert "is the folder of --data" in refused(capsys, *ask, data, "--output", data)
    assert "no checkpoint" in refused(capsys, *ask, data, folder / "data")
    (tmp_path / "file").write_text("")
    assert "file: cannot be written" in refused(capsys, *ask, data, "--output", tmp_path / "file", "--tasks", "odd")
    text = (folder / "tasks.yml").read_text().replace("- 'no'\n  - 'yes'", "- 'yes'\n  - 'no'")
    (tmp_path / "tasks.yml").write_text(text)
    trained(folder, "turned", f"task_defs={tmp_path / 'tasks.yml'}", "tasks=[negated]", "train.max_steps=1")
    line = refused(capsys, *ask, data, folder / "turned")
    assert "turned: negated: labels differs from an earlier run" in line
    assert not output.exists()


def test_a_task_without_rows_is_named_and_left_out(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.copy(folder / "data" / "marks_train.tsv", tmp_path)
    runs = (folder / "one", folder / "two")
    assert command("distill", *runs, "--data", tmp_path, "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["marks_train.tsv"]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mt-dnn: ")]
    assert len(lines) == 1 and lines[0].endswith("; skipped") and lines[0].count(" train") == len(TASKS) - 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["distillation.weight=0.5"], "data: distillation.weight is 0.5, but no training rows have a soft_label"),
        (["distillation.temperature=2"], "distillation: temperature has no effect with 'weight: 0'; leave it out"),
        (["distillation.weight=2"], "distillation.weight: Input should be less than or equal to 1"),
        (
            ["distillation={weight: 1, temperature: 2}", "data.dir=SOFT", "tasks=[overlap]"],
            "distillation.temperature: soft labels of regression tasks have no temperature",
        ),
        (["encoder.blocks=[0,2]"], "encoder.blocks: 2, but the encoder has blocks 0 to 1"),
        (["encoder.blocks=[1,0]"], "blocks: list each kept block once, in ascending order"),
        (["encoder.blocks=[1,1]"], "blocks: list each kept block once, in ascending order"),
        (["encoder.blocks=[]"], "encoder.blocks: Tuple should have at least 1 item"),
        (
            ["encoder.name=null", "encoder.blocks=[0]"],
            "encoder.blocks: a fresh encoder has no pretrained blocks to keep",
        ),
    ],
)
def test_settings_without_effect_are_refused(
    options: list[str], words: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    if "encoder.name=null" in options:
        options = [*options, "encoder.config={model_type: bert}", f"encoder.tokenizer={folder / 'encoder'}"]
    options = [option.replace("SOFT", str(folder / "soft")) for option in options]
    run = ("train", folder / "run.yml", f"output={tmp_path / 'run'}", "tasks=[odd]")
    assert words in refused(capsys, *run, *options)
    assert not (tmp_path / "run").exists()


def test_rows_that_change_while_teachers_predict_get_no_soft_labels(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "data" / "marks_train.tsv", tmp_path)
    real = distill.copy_other_splits

    def replace_rows(*arguments: Any) -> None:
        header, *rows = (tmp_path / "marks_train.tsv").read_text().splitlines(keepends=True)
        (tmp_path / "marks_train.tsv").write_text("".join([header, *reversed(rows)]))
        real(*arguments)

    monkeypatch.setattr(distill, "copy_other_splits", replace_rows)
    ask = ("distill", folder / "one", "--data", tmp_path, "--output", tmp_path / "out", "--tasks", "marks")
    assert "marks_train.tsv: was changed while it was read" in refused(capsys, *ask)
    assert list((tmp_path / "out").iterdir()) == []
