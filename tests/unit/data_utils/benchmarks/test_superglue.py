"""SuperGLUE's rows that are put together from several fields, and the files of a submission, field by field."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from data_utils.benchmarks.convert import convert
from data_utils.benchmarks.submission import main, write_submission
from data_utils.errors import UserError
from data_utils.rows import read_rows
from data_utils.task_def import load_task_defs
from experiments.superglue.convert import TASKS
from experiments.superglue.submission import PARTS
from tests import ROOT
from tests.layouts import lay_out, table
from tests.unit.data_utils.benchmarks.test_submission import predict

SPELLINGS = {  # what a run predicts, and what the leaderboard reads
    "BoolQ": ("true", "true"),
    "CB": ("neutral", "neutral"),
    "COPA": ("2", 1),
    "ReCoRD": ("Benazir Bhutto", "Benazir Bhutto"),
    "RTE": ("not_entailment", "not_entailment"),
    "WiC": ("false", "false"),
    "WSC": ("true", "True"),
    "AX-b": ("entailment", "entailment"),
    "AX-g": ("not_entailment", "not_entailment"),
}


def multirc(answers: list[dict[str, object]]) -> dict[str, object]:
    questions = [{"question": "How many?", "idx": 4, "answers": answers}]
    return {"idx": 3, "passage": {"text": "Two came.", "questions": questions}}


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


def test_a_pronoun_that_is_counted_wrongly_is_marked_where_it_stands(tmp_path):
    target = {"span1_index": 1, "span1_text": "safe", "span2_index": 7, "span2_text": "It."}
    row = {"text": "The item: it is safe, so do use it, it seems.", "target": target, "idx": 42, "label": False}
    lay_out(tmp_path, {"WSC/val.jsonl": json.dumps(row) + "\n"})
    convert(TASKS, tmp_path, tmp_path / "out", ["wsc"])
    marked = "The item: it is safe, so do use *it,* it seems."
    assert table(tmp_path / "out" / "wsc_dev.tsv")[1] == ["42", "false", marked, "safe"]


WIC = {"word": "w", "sentence1": "A w.", "sentence2": "The w.", "idx": 7, "label": False}
SPAN = {"span1_index": 0, "span1_text": "Ann", "span2_index": 1, "span2_text": "he"}
ANSWER = {"text": "Two.", "idx": 0, "label": 1}
COPA = {"premise": "P.", "choice1": "A", "choice2": "B", "question": "cause", "idx": 3, "label": 1}
WRONG_ROWS = [
    ("wic", "WiC", {"premise": "x"}, "KeyError: 'word'"),
    ("wic", "WiC", {**WIC, "word": None}, "TypeError"),
    ("wic", "WiC", {**WIC, "sentence2": None}, "expected a text, found None"),
    ("wic", "WiC", {**WIC, "label": 2}, "KeyError: 2"),
    ("wsc", "WSC", {"text": None, "target": SPAN, "idx": 0, "label": True}, "AttributeError"),
    (
        "wsc",
        "WSC",
        {"text": "Ann sleeps.", "target": SPAN, "idx": 0, "label": True},
        "ValueError: 'he' is not in the text",
    ),
    ("record", "ReCoRD", {"idx": 3, "passage": {"text": None, "entities": [{"start": 0, "end": 1}]}}, "TypeError"),
    *(("multirc", "MultiRC", multirc([{**ANSWER, "label": label}]), f"KeyError: {label}") for label in (2, -1)),
    ("copa", "COPA", {**COPA, "premise": None}, "TypeError"),
]


@pytest.mark.parametrize(("task", "folder", "row", "problem"), WRONG_ROWS)
def test_a_row_of_another_layout_is_one_line(task, folder, row, problem, tmp_path):
    lay_out(tmp_path, {f"{folder}/val.jsonl": json.dumps(row) + "\n"})
    report = convert(TASKS, tmp_path, tmp_path / "out", [task])
    assert f"val.jsonl:1: not a row of {task} ({problem}" in report.failed[0]
    assert not (tmp_path / "out").exists()


def test_half_a_character_is_refused(tmp_path):
    lay_out(tmp_path, {"COPA/val.jsonl": json.dumps({**COPA, "choice1": "\ud800"}) + "\n"})
    assert "val.jsonl:1: unpaired surrogate" in convert(TASKS, tmp_path, tmp_path / "out", ["copa"]).failed[0]


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


def test_answers_of_multirc_stand_below_their_questions_and_passages(tmp_path):
    uids: list[object] = ["10-3-8", "10-3-7", "9-0-0", "10-4-9"]
    predict(tmp_path / "runs", "multirc_test", "true", "false", "true", "false", uids=uids)
    names, warnings = write_submission(PARTS, [tmp_path / "runs"], tmp_path / "out", allow_missing=True)
    assert names == ["MultiRC.jsonl"] and "4 rows; the official test set has 9693 rows" in warnings[0]
    lines = [json.loads(line) for line in (tmp_path / "out" / "MultiRC.jsonl").read_text().splitlines()]
    first = {"idx": 3, "answers": [{"idx": 7, "label": 0}, {"idx": 8, "label": 1}]}
    assert lines == [
        {"idx": 9, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 1}]}]}},
        {"idx": 10, "passage": {"questions": [first, {"idx": 4, "answers": [{"idx": 9, "label": 0}]}]}},
    ]
    predict(tmp_path / "runs", "multirc_test", "true", uids=["7"])
    with pytest.raises(UserError, match=r'expected an object such as \{"uid": "7-8-9"'):
        write_submission(PARTS, [tmp_path / "runs"], tmp_path / "other", allow_missing=True)


def test_multirc_has_a_row_per_answer(tmp_path):
    row = multirc([ANSWER, {"text": "Six.", "idx": 1, "label": 0}])
    lay_out(tmp_path, {"MultiRC/val.jsonl": json.dumps(row) + "\n"})
    convert(TASKS, tmp_path, tmp_path / "out", ["multirc"])
    assert table(tmp_path / "out" / "multirc_dev.tsv") == [
        ["uid", "label", "premise", "hypothesis", "question_id"],
        ["3-4-0", "true", "Two came.", "How many? Two.", "3-4"],
        ["3-4-1", "false", "Two came.", "How many? Six.", "3-4"],
    ]


def test_record_has_the_entities_of_its_passage_as_choices(tmp_path):
    text = "Ann Lee met Bo.\n@highlight\nLee met Bo"
    spans = [(0, 6), (12, 13), (27, 29), (35, 36)]
    assert [text[a : b + 1] for a, b in spans] == ["Ann Lee", "Bo", "Lee", "Bo"]
    entities = [{"start": start, "end": end} for start, end in spans]
    query = {"query": "@placeholder was there", "idx": 8, "answers": [{"text": "Ann Lee"}, {"text": "Lee"}]}
    row = {"idx": 3, "passage": {"text": text, "entities": entities}, "qas": [query]}
    unlabelled = {**row, "qas": [{key: value for key, value in query.items() if key != "answers"}]}
    files = {"train": row, "val": row, "test": unlabelled}
    lay_out(tmp_path, {f"ReCoRD/{name}.jsonl": json.dumps(value) + "\n" for name, value in files.items()})
    convert(TASKS, tmp_path, tmp_path / "out", ["record"])
    start = ["8", "Ann Lee met Bo. - Lee met Bo"]
    assert table(tmp_path / "out" / "record_train.tsv")[1] == [start[0], "1", start[1], "Ann Lee", "Bo", query["query"]]
    for split, label in (("dev", "1 3"), ("test", "")):
        header, line = table(tmp_path / "out" / f"record_{split}.tsv")
        assert header == ["uid", "label", "premise", "choice1", "choice2", "choice3", "query"]
        assert line == [start[0], label, start[1], "Ann Lee", "Bo", "Lee", query["query"]]
    task = load_task_defs(ROOT / "task_defs" / "superglue.yml")["record"]
    assert read_rows(tmp_path / "out" / "record_dev.tsv", task).label == [[0, 2]]


def test_a_query_of_record_that_cannot_be_learnt_is_left_out(tmp_path):
    entities = [{"start": 0, "end": 2}, {"start": 8, "end": 9}]
    queries = [
        {"query": "@placeholder came", "idx": number, "answers": [{"text": text} for text in texts]}
        for number, texts in enumerate((["Ann"], ["Eve"], [], ["Ann", "Bo"]))
    ]
    row = {"idx": 3, "passage": {"text": "Ann met Bo.", "entities": entities}, "qas": queries}
    unlabelled = {**row, "qas": [{"query": "@placeholder came", "idx": 0}]}
    files = {"train": row, "val": row, "test": unlabelled}
    lay_out(tmp_path, {f"ReCoRD/{name}.jsonl": json.dumps(value) + "\n" for name, value in files.items()})
    report = convert(TASKS, tmp_path, tmp_path / "out", ["record"])
    assert [(written.rows, written.broken) for written in report.written] == [(1, 3), (2, 2), (1, 0)]


@pytest.mark.parametrize(
    ("name", "wrong", "problem"),
    [
        ("wsc_test", "True", "'True' is none of"),
        ("copa_test", "0", "'0' is none of"),
        ("cb_test", "yes", "'yes' is none of"),
        ("record_test", None, "None is not text"),
        ("record_test", ["Ann"], r"\['Ann'\] is not text"),
    ],
)
def test_wrong_predictions_leave_nothing(name, wrong, problem, tmp_path):
    predict(tmp_path / "runs", name, wrong)
    with pytest.raises(UserError, match=f"{name}.jsonl:1: prediction {problem}"):
        write_submission(PARTS, [tmp_path / "runs"], tmp_path / "out", allow_missing=True)
    assert not (tmp_path / "out").exists()


def test_no_predictions_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        main(PARTS, description=None, arguments=["--predictions", str(tmp_path), "--output", str(tmp_path / "out")])
        == 2
    )
    assert "none of boolq_test.jsonl" in capsys.readouterr().err
