"""GLUE's own folders, imitated file by file, and GLUE itself where MT_DNN_REAL_DATA points at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_utils.benchmarks.convert import convert, main
from experiments.glue.convert import TASKS
from tests.layouts import lay_out, table

PAIR = "index\tsentence1\tsentence2"
FILES = {
    "RTE/train.tsv": f'{PAIR}\tlabel\n0\tA "dog\tAn animal\tentailment\n1\tA cat"\tA dog\tnot_entailment\n',
    "RTE/dev.tsv": f"{PAIR}\tlabel\r\n7\tA\tB\tentailment\r\n",
    "RTE/test.tsv": f"{PAIR}\n0\tA\tB\n1\tC\tD\n",
    "MRPC/train.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t10\t11\tHe said .\tShe said .\n",
    "MRPC/test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t10\t11\tOne\tTwo\n",
    "CoLA/train.tsv": "gj04\t1\t\tIt sleeps.\ngj04\t0\t*\tSleeps it it.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tIt rains.\n",
    "SST-2/train.tsv": "sentence\tlabel\nfine \t1\n",
    "STS-B/dev.tsv": "index\tgenre\tyear\tsentence1\tsentence2\tscore\n3\tnews\t2012\tOne\tUn\t4.750\n",
    "WNLI/dev.tsv": f"{PAIR}\tlabel\n0\tA\tB\t1\n",
    "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tnot_entailment\n",
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "133\t1\t2\tWhy?\tHow?\t0\n134\t3\t4\tcut\n off?\tHow?\t1\n",
    "diagnostic/diagnostic.tsv": f"{PAIR}\n0\tA\tB\n",
    "MNLI/train.tsv": "index\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\t9n\tfiction\tA\tB\tneutral\tneutral\n",
    "MNLI/dev_matched.tsv": f"{PAIR}\tlabel1\tlabel2\tgold_label\n"
    "0\tA\tB\tneutral\tentailment\t-\n1\tC\tD\tneutral\tneutral\tneutral\n",
    "MNLI/test_mismatched.tsv": f"{PAIR}\n5\tA\tB\n",
}


@pytest.fixture
def converted(tmp_path):
    report = convert(TASKS, lay_out(tmp_path / "GLUE", FILES), tmp_path / "out")
    assert report.failed == []
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "rte_train",
            [
                ["uid", "label", "premise", "hypothesis"],
                ["0", "entailment", 'A "dog', "An animal"],
                ["1", "not_entailment", 'A cat"', "A dog"],
            ],
        ),
        ("rte_dev", [["uid", "label", "premise", "hypothesis"], ["7", "entailment", "A", "B"]]),
        ("rte_test", [["uid", "label", "premise", "hypothesis"], ["0", "", "A", "B"], ["1", "", "C", "D"]]),
        ("mrpc_train", [["uid", "label", "premise", "hypothesis"], ["0", "1", "He said .", "She said ."]]),
        ("mrpc_test", [["uid", "label", "premise", "hypothesis"], ["0", "", "One", "Two"]]),
        ("cola_train", [["uid", "label", "premise"], ["0", "1", "It sleeps."], ["1", "0", "Sleeps it it."]]),
        ("cola_test", [["uid", "label", "premise"], ["0", "", "It rains."]]),
        ("sst2_train", [["uid", "label", "premise"], ["0", "1", "fine "]]),
        (
            "stsb_dev",
            [["uid", "label", "premise", "hypothesis", "genre"], ["3", "4.750", "One", "Un", "news"]],
        ),
        ("qqp_train", [["uid", "label", "premise", "hypothesis"], ["133", "0", "Why?", "How?"]]),
        ("qnli_dev", [["uid", "label", "premise", "hypothesis"], ["0", "not_entailment", "Who?", "He."]]),
        ("ax_test", [["uid", "label", "premise", "hypothesis"], ["0", "", "A", "B"]]),
        (
            "mnli_train",
            [
                ["uid", "label", "premise", "hypothesis", "pairID", "genre", "label1"],
                ["0", "neutral", "A", "B", "9n", "fiction", "neutral"],
            ],
        ),
        (
            "mnli_dev_matched",
            [
                ["uid", "label", "premise", "hypothesis", "label1", "label2"],
                ["1", "neutral", "C", "D", "neutral", "neutral"],
            ],
        ),
        ("mnli_test_mismatched", [["uid", "label", "premise", "hypothesis"], ["5", "", "A", "B"]]),
    ],
)
def test_canonical_rows(converted, name, expected):
    assert table(converted / f"{name}.tsv") == expected


def test_what_was_left_out_is_counted(tmp_path):
    report = convert(TASKS, lay_out(tmp_path, FILES), tmp_path / "out", ["mnli", "qqp"])
    counts = {(w.task, w.split): (w.rows, w.no_gold, w.broken) for w in report.written}
    assert counts["mnli", "dev_matched"] == (1, 1, 0)
    assert counts["qqp", "train"] == (1, 0, 2)


def test_the_summary_shows_the_counts(tmp_path, capsys):
    convert(TASKS, lay_out(tmp_path, FILES), tmp_path / "out", ["mnli", "rte"]).finish()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mnli", "dev_matched", "1", "1", "0", "neutral", "1"] in lines
    assert ["rte", "train", "2", "0", "0", "entailment", "1,", "not_entailment", "1"] in lines
    assert ["rte", "test", "2", "0", "0", "unlabelled"] in lines


def test_mnli_beside_the_glue_folder_and_under_another_name(tmp_path):
    lay_out(tmp_path, {"MNLI/train_subset.tsv": FILES["MNLI/train.tsv"], "GLUE/MNLI/README.txt": "empty"})
    report = convert(TASKS, tmp_path / "GLUE", tmp_path / "out", ["mnli"])
    assert [(w.split, w.rows) for w in report.written] == [("train", 1)]


def test_two_files_that_both_fit(tmp_path):
    lay_out(tmp_path, {f"MNLI/train_{part}.tsv": FILES["MNLI/train.tsv"] for part in "ab"})
    report = convert(TASKS, tmp_path, tmp_path / "out", ["mnli"])
    assert "train_a.tsv and MNLI/train_b.tsv both fit" in report.failed[0]


def test_a_missing_folder_names_its_path_and_leaves_the_others_unharmed(tmp_path, capsys):
    lay_out(tmp_path, {"RTE/dev.tsv": FILES["RTE/dev.tsv"]})
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(TASKS, description="", arguments=arguments) == 0
    printed = capsys.readouterr().out
    assert f"cola: none of {tmp_path / 'CoLA' / 'train.tsv'}" in printed
    assert f"not found: {tmp_path / 'RTE' / 'train.tsv'}" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rte_dev.tsv"]


def test_a_missing_task_that_was_asked_for_is_an_error(tmp_path, capsys):
    lay_out(tmp_path, {"RTE/dev.tsv": FILES["RTE/dev.tsv"]})
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "rte", "cola"]
    assert main(TASKS, description="", arguments=arguments) == 2
    assert "failed: cola: none of" in capsys.readouterr().err
    assert (tmp_path / "out" / "rte_dev.tsv").exists()


def test_nothing_to_convert_is_an_error(tmp_path):
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(TASKS, description="", arguments=arguments) == 2


def test_an_unknown_task(tmp_path, capsys):
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "sst"]
    assert main(TASKS, description="", arguments=arguments) == 2
    assert "unknown key 'sst', did you mean 'sst2'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"index\tsentence1\tsentence2\tlabel\n0\tA\tB\n", ":2: 3 columns, expected 4"),
        (b"index\tsentence1\tpremise2\tlabel\n0\tA\tB\tentailment\n", ": no column 'sentence2'"),
        (b"index\tsentence1\tsentence2\n0\tA\tB\n", ": no column 'label'"),
        (b"index\tsentence1\tsentence2\tlabel\n0\tA\tB\xe9\tentailment\n", ":2: not UTF-8"),
        (b"", ": the file is empty"),
        (b"index\tsentence1\tsentence2\tlabel\n", ": no usable rows of rte"),
    ],
)
def test_a_wrong_file_is_named_and_the_other_splits_are_converted(tmp_path, text, message):
    lay_out(tmp_path, {"RTE/dev.tsv": FILES["RTE/dev.tsv"]})
    (tmp_path / "RTE" / "train.tsv").write_bytes(text)
    report = convert(TASKS, tmp_path, tmp_path / "out")
    assert len(report.failed) == 1
    assert report.failed[0].startswith(f"{tmp_path / 'RTE' / 'train.tsv'}{message}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rte_dev.tsv"]
    assert report.finish() == 2


def test_a_folder_where_a_file_is_due(tmp_path):
    (tmp_path / "RTE" / "train.tsv").mkdir(parents=True)
    assert "RTE/train.tsv: cannot be read" in convert(TASKS, tmp_path, tmp_path / "out").failed[0]


@pytest.mark.parametrize("below", ["", "below"])
def test_an_output_that_is_a_file_is_one_line(below, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    output = tmp_path / "out" / below
    arguments = ["--source", str(lay_out(tmp_path, FILES)), "--output", str(output)]
    assert main(TASKS, description="", arguments=arguments) == 2
    assert capsys.readouterr().err.startswith(f"failed: {output}: cannot be written (")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_source_that_is_not_there_is_one_line(tmp_path, capsys):
    arguments = ["--source", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    assert main(TASKS, description="", arguments=arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.endswith(f"{tmp_path / 'nowhere'}: no such folder\n") and not captured.out


OFFICIAL = {
    "cola": (8551, 1043, 1063),
    "sst2": (67349, 872, 1821),
    "mrpc": (3668, 408, 1725),
    "stsb": (5749, 1500, 1379),
    "rte": (2490, 277, 3000),
    "wnli": (635, 71, 146),
}


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
def test_official_row_counts(tmp_path):
    source = Path(os.environ["MT_DNN_REAL_DATA"]) / "GLUE"
    report = convert(TASKS, source, tmp_path, [*OFFICIAL, "ax"])
    counts = {(w.task, w.split): w.rows for w in report.written}
    expected = {
        (task, split): count
        for task, numbers in OFFICIAL.items()
        for split, count in zip(("train", "dev", "test"), numbers, strict=True)
    }
    assert report.failed == []
    assert counts == {**expected, ("ax", "test"): 1104}
