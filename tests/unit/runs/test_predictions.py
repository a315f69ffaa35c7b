"""Files of predictions: right answers, texts, and which rows they are of."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_utils.errors import UserError
from data_utils.metrics import compute
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs import predictions
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.predictions import read_predictions, write_predictions
from mt_dnn.runs.run import Run
from mt_dnn.tasks.base import Decoded
from tests.workspace import make_workspace

TASKS = ("same", "odd", "tagged", "gap")
NAMES = {"same": {"first", "second"}, "odd": {"first", "choices"}}  # the texts of rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with rows set aside, and with texts."""
    folder = tmp_path_factory.mktemp("run")
    make_workspace(folder, more=TASKS[1:])
    options = [
        f"tasks=[{','.join(TASKS)}]",
        "train.max_steps=1",
        "data.max_rows=30",
        "data.sample=true",
        "data.carve=0.3",
        "data.held_out=8",
        "evaluation.predictions={text: true}",
    ]
    Run(load_config(folder / "run.yml", options))()
    return folder / "run"


def records(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("split", ["dev", "carved", "held_out"])
@pytest.mark.parametrize("task", TASKS)
def test_each_record_has_the_texts_of_its_row(task: str, split: str, run: Path) -> None:
    definition = load_task_defs(run / "task_defs.yml")[task]
    rows = read_rows(run.parent / "data" / f"{task}_{'dev' if split == 'dev' else 'train'}.tsv", definition)
    found = records(run, f"{task}_{split}")
    assert found and {"gold", *NAMES.get(task, ())} <= found[0].keys()
    for record in found:
        row = rows.uid.index(record["uid"])
        assert record["first"] == rows.first[row]
        assert record.get("second") == (rows.second and rows.second[row])
        assert record.get("choices") == (rows.choices and rows.choices[row])


def test_rows_without_labels_have_no_right_answer(run: Path) -> None:
    assert all("gold" not in record and record["first"] for record in records(run, "same_test"))
    with pytest.raises(UserError, match=r"same_test.jsonl: has no right answers; run mt-dnn train again"):
        read_predictions(run / "predictions" / "same_test.jsonl", load_task_defs(run / "task_defs.yml")["same"])


def test_a_file_of_another_task_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"odd_dev.jsonl: is no file of predictions of same \("):
        read_predictions(run / "predictions" / "odd_dev.jsonl", load_task_defs(run / "task_defs.yml")["same"])


def test_rows_of_one_question_are_scored_together(tmp_path: Path) -> None:
    """MultiRC's exact match: the numbers of questions are written, so a file is enough for the score."""
    names = {"loss": "cross_entropy", "kd_loss": "kl", "adv_loss": "sym_kl", "data_format": "pair"}
    kind = {"name": "multirc", "task_type": "classification", "labels": ("0", "1"), **names}
    task = TaskDef.model_validate({**kind, "metrics": ("question_exact_match", "accuracy")})
    labels, right = np.array([1, 0, 1, 1]), np.array([1, 0, 0, 1])
    questions = np.array([4, 4, 5, 5])
    split: Any = SimpleNamespace(each_uid=lambda: iter("abcd"), row_count=4, labels=right, questions=questions)
    write_predictions(tmp_path / "p.jsonl", task, split, Decoded(labels, np.eye(2)[labels]))
    found = read_predictions(tmp_path / "p.jsonl", task)
    assert compute(task.metrics, found.answers) == {"question_exact_match": 0.5, "accuracy": 0.75}
    drawn = compute(task.metrics, found.of(np.array([0, 1, 1])))
    assert drawn == {"question_exact_match": 1, "accuracy": 1}


def test_sentences_stay_where_they_are_if_the_first_ones_have_no_words(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task_defs(run / "task_defs.yml")["tagged"]
    label = task.labels[0]
    rows = [{"uid": f"{i}", "prediction": [label] * i, "gold": [label] * i} for i in (0, 0, 2, 1)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(predictions, "WINDOW", 2)
    answers = read_predictions(tmp_path / "p.jsonl", task).answers
    assert answers.bounds is not None and answers.bounds.tolist() == [0, 0, 0, 2, 3]
    assert answers.labels.dtype == np.int64 and answers.labels.tolist() == [0, 0, 0]


def test_without_the_setting_there_are_no_texts(workspace: Path) -> None:
    Run(load_config(workspace / "run.yml", ["tasks=[same]", "train.max_steps=1"]))()
    assert all(
        record.keys() == {"uid", "prediction", "scores", "gold"} for record in records(workspace / "run", "same_dev")
    )
