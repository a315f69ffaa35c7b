"""Pairs as choices, and nested parts of training sets."""

from __future__ import annotations

import pytest

from data_utils.benchmarks.convert import convert
from experiments.domain_adaptation.convert import main, subsets
from experiments.ranking.convert import TASKS
from tests.layouts import lay_out, table

PAIRS = [
    ("0", "Who?", "He.", "entailment"),
    ("1", "Why?", "So.", "not_entailment"),
    ("2", "Who?", "It.", "not_entailment"),
    ("3", "How?", "Well.", "entailment"),
    ("4", "When?", "Now.", "entailment"),
    ("5", "When?", "Then.", "entailment"),
    ("6", "Who?", "Him.", "not_entailment"),
    ("7", "Where?", "There.", "not_entailment"),
    ("8", "Where?", "Here.", "entailment"),
]


def tsv(*rows: tuple[str, ...]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def test_pairs_of_one_question_are_its_choices(tmp_path):
    lay_out(tmp_path, {"GLUE/QNLI/dev.tsv": tsv(("index", "question", "sentence", "label"), *PAIRS)})
    report = convert(TASKS, tmp_path, tmp_path / "out", ["qnli_ranking"])
    (written,) = report.written
    assert (written.rows, written.broken, written.labels) == (2, 4, {"1": 1, "2": 1})
    assert table(tmp_path / "out" / "qnli_ranking_dev.tsv") == [
        ["uid", "label", "premise", "choice1", "choice2", "choice3"],
        ["0", "1", "Who?", "He.", "It.", "Him."],
        ["7", "2", "Where?", "There.", "Here.", ""],
    ]


def test_pairs_that_are_alone_are_one_line(tmp_path):
    lay_out(tmp_path, {"GLUE/QNLI/dev.tsv": tsv(("index", "question", "sentence", "label"), PAIRS[3])})
    report = convert(TASKS, tmp_path, tmp_path / "out", ["qnli_ranking"])
    assert len(report.failed) == 1 and "no premise has several hypotheses and exactly one" in report.failed[0]


def test_smaller_sets_are_part_of_larger_ones():
    lines = [str(number) for number in range(2000)]
    found = subsets(lines, 1)
    assert [len(found[percent]) for percent in ("0.1", "1", "10", "100")] == [2, 20, 200, 2000]
    assert set(found["0.1"]) < set(found["1"]) < set(found["10"]) < set(found["100"]) == set(lines)
    assert found["10"] == sorted(found["10"], key=int) and found["10"] != lines[:200]
    assert [len(kept) for kept in subsets([""] * 23596, 1).values()] == [23, 235, 2359, 23596]  # the paper's, SciTail
    assert subsets(lines, 1) == found != subsets(lines, 2)
    assert all(len(kept) >= 1 for kept in subsets(lines[:5], 1).values())


ROWS = [(str(number), "neutral", f"a {number}", "b") for number in range(50)]
SCITAIL = {
    f"scitail_{split}.tsv": tsv(("uid", "label", "premise", "hypothesis"), *ROWS[:count])
    for split, count in (("train", 50), ("dev", 3), ("test", 4))
}


def test_a_folder_for_each_size(tmp_path, capsys):
    lay_out(tmp_path / "nli", SCITAIL)
    arguments = ["--source", str(tmp_path / "nli"), "--output", str(tmp_path / "out"), "--tasks", "scitail"]
    assert main(arguments) == 0
    assert "scitail 5 training rows" in capsys.readouterr().out
    counts = {
        percent: [
            len(table(tmp_path / "out" / percent / f"scitail_{split}.tsv")) - 1 for split in ("train", "dev", "test")
        ]
        for percent in ("0.1", "1", "10", "100")
    }
    assert counts == {"0.1": [1, 3, 4], "1": [1, 3, 4], "10": [5, 3, 4], "100": [50, 3, 4]}


def test_other_formats_keep_their_names(tmp_path):
    lay_out(tmp_path / "nli", {name: text for name, text in SCITAIL.items() if "dev" not in name})
    lay_out(tmp_path / "nli", {"scitail_dev.jsonl": '{"uid": "0"}\n'})
    assert main(["--source", str(tmp_path / "nli"), "--output", str(tmp_path / "out"), "--tasks", "scitail"]) == 0
    names = sorted(path.name for path in (tmp_path / "out" / "1").iterdir())
    assert names == ["scitail_dev.jsonl", "scitail_test.tsv", "scitail_train.tsv"]
    assert (tmp_path / "out" / "1" / "scitail_dev.jsonl").read_text() == '{"uid": "0"}\n'


@pytest.mark.parametrize(
    ("tasks", "missing", "message"),
    [
        (["snli"], "", "snli_train.tsv: no such file"),
        (["scitail"], "scitail_dev.tsv", "scitail_dev.tsv: no such file"),
        (["scitail", "snli"], "", "snli_train.tsv: no such file"),
        (["scitail", "snlii"], "", "--tasks: unknown key 'snlii', did you mean 'snli'"),
    ],
)
def test_what_is_not_there_is_one_line(tasks, missing, message, tmp_path, capsys):
    lay_out(tmp_path, {name: text for name, text in SCITAIL.items() if name != missing})
    assert main(["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", *tasks]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out and not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_one_line(tmp_path, capsys):
    lay_out(tmp_path, {**SCITAIL, "out": "mine"})
    assert main(["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "scitail"]) == 2
    assert f"{tmp_path / 'out'}: cannot be written (" in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"", b"uid\tlabel\tpremise\thypothesis\n", b"0\tneutral\ta\tb\n" * 2, b"uid\t\xe9\n"])
def test_training_rows_that_are_none_are_one_line(text, tmp_path, capsys):
    lay_out(tmp_path, SCITAIL)
    (tmp_path / "scitail_train.tsv").write_bytes(text)
    assert main(["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "scitail"]) == 2
    assert "scitail_train.tsv:" in capsys.readouterr().err and not (tmp_path / "out").exists()
