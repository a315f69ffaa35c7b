"""SuperGLUE's rows that are put together from several fields, and the files of a submission, field by field."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from data_utils.convert import convert
from data_utils.errors import UserError
from data_utils.submission import main, write_submission
from experiments.superglue.convert import TASKS
from experiments.superglue.submission import PARTS
from tests.layouts import lay_out, table
from tests.unit.test_submission import predict

SPELLINGS = {  # what a run predicts, and what the leaderboard reads
    "BoolQ": ("true", "true"),
    "CB": ("neutral", "neutral"),
    "COPA": ("2", 1),
    "RTE": ("not_entailment", "not_entailment"),
    "WiC": ("false", "false"),
    "WSC": ("true", "True"),
}


def test_words_in_context(tmp_path):
    row = {"word": "class", "sentence1": "A class.", "sentence2": "Real class.", "idx": 7, "label": False}
    unlabelled = {key: value for key, value in row.items() if key != "label"}
    lay_out(tmp_path, {"WiC/val.jsonl": json.dumps(row) + "\n", "WiC/test.jsonl": json.dumps(unlabelled) + "\n"})
    convert(TASKS, tmp_path, tmp_path / "out", ["wic"])
    expected = ["7", "false", "class: A class.", "Real class."]
    assert table(tmp_path / "out" / "wic_dev.tsv") == [["uid", "label", "premise", "hypothesis"], expected]
    assert table(tmp_path / "out" / "wic_test.tsv")[1] == ["7", "", *expected[2:]]


def test_winograd_schemas(tmp_path):
    target = {"span1_index": 0, "span1_text": "Bernard", "span2_index": 4, "span2_text": "he"}
    row = {"text": "Bernard had not said he was young.", "target": target, "idx": 0, "label": True}
    lay_out(tmp_path, {"WSC/val.jsonl": json.dumps(row) + "\n"})
    convert(TASKS, tmp_path, tmp_path / "out", ["wsc"])
    assert table(tmp_path / "out" / "wsc_dev.tsv")[1] == [
        "0",
        "true",
        "Bernard had not said *he* was young.",
        "Bernard",
    ]


def test_a_row_of_another_task_is_one_line(tmp_path):
    lay_out(tmp_path, {"WiC/val.jsonl": json.dumps({"premise": "x"}) + "\n"})
    report = convert(TASKS, tmp_path, tmp_path / "out", ["wic"])
    assert "val.jsonl:1: not a row of wic (KeyError: 'word')" in report.failed[0]


def test_submission_files_have_the_fields_of_the_leaderboard(tmp_path):
    for name, (prediction, _) in SPELLINGS.items():
        predict(tmp_path / "runs", PARTS[f"{name}.jsonl"].predictions, prediction, prediction, uids=["10", "9"])
    names, warnings = write_submission(PARTS, [tmp_path / "runs"], tmp_path / "out", allow_missing=True)
    assert names == [f"{name}.jsonl" for name in SPELLINGS] and len(warnings) == len(names)
    for name, (_, label) in SPELLINGS.items():
        lines = (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"idx": 9, "label": label}, {"idx": 10, "label": label}]
    with zipfile.ZipFile(tmp_path / "out" / "submission.zip") as archive:
        assert archive.namelist() == names


@pytest.mark.parametrize(("name", "wrong"), [("wsc_test", "True"), ("copa_test", "0"), ("cb_test", "yes")])
def test_wrong_predictions_leave_nothing(name, wrong, tmp_path):
    predict(tmp_path / "runs", name, wrong)
    with pytest.raises(UserError, match=f"{name}.jsonl:1: prediction '{wrong}' is none of"):
        write_submission(PARTS, [tmp_path / "runs"], tmp_path / "out", allow_missing=True)
    assert not (tmp_path / "out").exists()


def test_no_predictions_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        main(PARTS, description=None, arguments=["--predictions", str(tmp_path), "--output", str(tmp_path / "out")])
        == 2
    )
    assert "none of boolq_test.jsonl" in capsys.readouterr().err
