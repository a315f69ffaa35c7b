"""Every task type with every adversarial mode, packed and padded; runs that mix types in one encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data_utils.metrics import METRICS, compute
from data_utils.rows import read_rows
from data_utils.task_def import load_task_defs
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.batches.collate import collate
from mt_dnn.batches.draws import seed_step
from mt_dnn.cli.main import main
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.inference.trained import load
from mt_dnn.runs import evaluate
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.evaluate import score
from mt_dnn.runs.outputs import row_outputs
from mt_dnn.runs.predictions import read_predictions
from mt_dnn.runs.run import Run
from mt_dnn.tasks.spans import SpanHead
from tests.parts import parts
from tests.workspace import MORE_TASKS, make_workspace

TASKS = ("negated", "overlap", *MORE_TASKS)
OWN = {"rapt": ["adversary.max_layer=2"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("types")
    make_workspace(folder, train_rows=200, more=list(MORE_TASKS), soft=True)
    return folder


@pytest.mark.parametrize("attention", ["packed", "padded"])
@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("mode", ADVERSARIES)
def test_one_update_trains_the_encoder_and_the_right_head(
    mode: str, weight: float, attention: str, folder: Path
) -> None:
    options = [f"adversary.mode={mode}", *OWN.get(mode, []), f"encoder.attention={attention}"]
    options += [f"distillation.weight={weight}"]
    options += ["schedule.warmup_fraction=0", "optimizer.lookahead.enabled=false", f"tasks=[{','.join(TASKS)}]"]
    run = parts(folder, *options)
    run.model.train()
    for task in TASKS:
        before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        seed_step(1, 0)
        loss, norm, telemetry = run.stepper([collate(run.train_splits[task], range(8), task=task)])
        assert loss.isfinite() and norm > 0
        assert all(torch.tensor(value).isfinite() for value in telemetry.values().values())
        moved = {name for name, p in run.model.named_parameters() if not p.equal(before[name])}
        heads = {name.split(".")[1] for name in moved if name.startswith("heads.")}
        assert heads == {task} and any(name.startswith("encoder.") for name in moved)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """All types in one encoder, with TAT."""
    tasks = yaml.safe_load((folder / "tasks.yml").read_text())
    tasks["marks"]["loss_weight"] = 3  # it learns slowest
    (folder / "weighted.yml").write_text(yaml.safe_dump(tasks))
    options = [
        f"task_defs={folder / 'weighted.yml'}",
        f"output={folder / 'mixed'}",
        "adversary.mode=tat",
        "train.epochs=6",
        "train.batch_size=16",
        "optimizer.lr=7e-3",
        "optimizer.lookahead.enabled=false",
        f"tasks=[{','.join(TASKS)}]",
    ]
    assert isinstance(Run(load_config(folder / "run.yml", options))(), dict)
    return folder / "mixed"


def test_each_head_of_a_mixed_run_beats_its_baseline(trained: Path) -> None:
    results = json.loads((trained / "summary.json").read_text())["results"]
    assert {result["task"] for result in results} >= set(TASKS)
    for result in results:
        if result["task"] in TASKS:
            for metric, value in result["scores"].items():
                lower = METRICS[metric].lower_is_better
                assert (value < result["baseline"][metric]) == lower, (result["task"], metric)


@pytest.mark.parametrize("name", TASKS)
def test_predictions_vary_and_come_from_the_own_head(name: str, trained: Path) -> None:
    """Without what other heads have learnt nothing changes; without what the own head has learnt, all is the same."""
    lines = [json.loads(line) for line in (trained / "predictions" / f"{name}_dev.jsonl").read_text().splitlines()]
    assert len(lines) == 40 and len({str(line["prediction"]) for line in lines}) > 1
    loaded = load(trained)
    task = loaded.task(name)
    split = read_splits(loaded.config, [(task, "dev")], loaded.tokenizer)[0][name, "dev"]
    found = loaded.decode(task, split)
    for heads, same in (([head for head in TASKS if head != name], True), ([name], False)):
        with torch.no_grad():
            for head in heads:
                for parameter in loaded.model.heads[head].parameters():
                    parameter.zero_()
        again = loaded.decode(task, split)
        assert np.array_equal(again.scores, found.scores) == same
        assert np.array_equal(again.predictions, found.predictions) == same


@pytest.mark.parametrize("name", TASKS)
def test_files_of_predictions_have_all_that_scores_need(name: str, trained: Path) -> None:
    """The metrics of a file, and the labels in it, are those of the run and of its rows."""
    task = load_task_defs(trained / "task_defs.yml")[name]
    found = read_predictions(trained / "predictions" / f"{name}_dev.jsonl", task)
    (expected,) = [
        entry["scores"]
        for entry in json.loads((trained / "summary.json").read_text())["results"]
        if (entry["task"], entry["split"]) == (name, "dev")
    ]
    assert compute(task.metrics, found.answers) == {
        key: pytest.approx(value, rel=1e-4) for key, value in expected.items()
    }
    every_row = found.of(np.arange(len(found.records)))
    assert compute(task.metrics, every_row) == {key: pytest.approx(value, rel=1e-4) for key, value in expected.items()}
    rows = read_rows(trained.parent / "data" / f"{name}_dev.tsv", task)
    assert [record["uid"] for record in found.records] == rows.uid
    if task.type.answer == "class" and rows.label is not None:
        assert [record["gold"] for record in found.records] == [task.labels[label] for label in rows.label]
    elif task.type.answer == "number":
        assert [record["gold"] for record in found.records] == rows.label
    elif task.type.answer == "spans" and rows.label is not None:
        assert [record["gold"] for record in found.records] == [[text for _, text in label] for label in rows.label]


def test_predictions_are_not_constant_and_name_what_is_there(trained: Path) -> None:
    lines = (trained / "predictions" / "odd_dev.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["prediction"] for row in rows}) > 1
    for number, row in enumerate(rows):
        assert list(row["scores"]) == [str(choice) for choice in range(1, 3 + number % 3)]
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert max(row["scores"], key=row["scores"].get) == row["prediction"]


def test_choices_are_predicted_from_raw_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = trained.parent / "lines.txt"
    text.write_text("the cat\tthe dog\tman woman\nthe cat\ta\tb\tc\n")
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(trained), "--task", "odd", "--input", str(text)])
    assert exit_.value.code == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row["scores"]) for row in found] == [["1", "2"], ["1", "2", "3"]]
    text.write_text("the cat\tthe dog\n")
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(trained), "--task", "odd", "--input", str(text)])
    assert exit_.value.code == 2 and "2 tab-separated fields, the task takes 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "text"), [("tagged", "the cat sees a small dog\nnot\n"), ("found", "the a cat\tsmall old dog sees not\n")]
)
def test_words_and_answers_are_predicted_from_raw_text(
    task: str, text: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained.parent / "lines.txt").write_text(text)
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(trained), "--task", task, "--input", str(trained.parent / "lines.txt")])
    assert exit_.value.code == 0
    found = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    if task == "tagged":
        assert [len(labels) for labels in found] == [6, 1] and len(set(found[0])) > 1
    else:
        assert len(found) == 1 and found[0] and found[0] in text


@pytest.mark.parametrize("task", ["tagged", "found"])
def test_predictions_of_words_and_answers_differ(task: str, trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "predictions" / f"{task}_dev.jsonl").read_text().splitlines()]
    texts = [row.split("\t")[-1] for row in (trained.parent / "data" / f"{task}_dev.tsv").read_text().splitlines()[1:]]
    assert len(rows) == len(texts) == 40
    for row, text in zip(rows, texts, strict=True):
        if task == "tagged":
            assert len(row["prediction"]) == len(row["scores"]) == len(text.split())
            assert set(row["prediction"]) <= {"O", "B-X", "I-X"}
        else:
            assert row["prediction"] and row["prediction"] in text
    assert len({str(row["prediction"]) for row in rows}) > 5


@pytest.mark.parametrize("loss", ["cross_entropy", "pairwise"])
def test_both_losses_rank(loss: str, folder: Path, tmp_path: Path) -> None:
    text = (folder / "tasks.yml").read_text().replace("odd:\n", f"odd:\n  loss: {loss}\n")
    (tmp_path / "tasks.yml").write_text(text)
    options = [f"task_defs={tmp_path / 'tasks.yml'}", f"output={tmp_path / 'run'}", "tasks=[odd]", "train.epochs=6"]
    summary = Run(load_config(folder / "run.yml", options))()
    assert isinstance(summary, dict)
    (result,) = summary["results"]
    assert result["scores"]["mrr"] > result["baseline"]["mrr"] + 0.1


def test_the_threshold_of_no_answer_is_tuned_saved_and_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the questions have no answer; evaluating the run again gives the scores that its table has."""
    evaluated: list[str] = []

    def counted(model: Any, task: str, *args: Any) -> Any:
        evaluated.append(task)
        return row_outputs(model, task, *args)

    monkeypatch.setattr(evaluate, "row_outputs", counted)
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev"):
        rows = [line.split("\t")[:4] for line in (folder / "data" / f"found_{split}.tsv").read_text().splitlines()]
        words = "small old red blue not"
        changed = [
            [uid, "[]", question, words] if i % 2 else [uid, label, question, context]
            for i, (uid, label, question, context) in enumerate(rows[1:])
        ]
        (data / f"maybe_{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in [rows[0], *changed]))
    (tmp_path / "tasks.yml").write_text(
        "maybe: {task_type: span, data_format: question_context, no_answer: true, splits: [train, dev]}\n"
    )
    places = [f"task_defs={tmp_path / 'tasks.yml'}", f"data.dir={data}", f"output={tmp_path / 'run'}"]
    summary = Run(load_config(folder / "run.yml", [*places, "train.epochs=4"]))()
    assert isinstance(summary, dict)
    assert evaluated == ["maybe"] * 4  # once after each epoch, also where the threshold changed
    (result,) = summary["results"]
    loaded = load(tmp_path / "run")
    task, head = loaded.task("maybe"), loaded.model.heads["maybe"]
    assert isinstance(head, SpanHead) and head.threshold != 0
    prepared = read_splits(loaded.config, [(task, "dev")], loaded.tokenizer)[0]["maybe", "dev"]
    decoded = loaded.decode(task, prepared)
    assert score(task, prepared, decoded) == pytest.approx(result["scores"])
    assert 0 < sum(text == "" for text in decoded.predictions) < 40
    head.threshold.zero_()
    untuned = score(task, prepared, loaded.decode(task, prepared))
    assert result["scores"]["answer_f1"] > untuned["answer_f1"]
