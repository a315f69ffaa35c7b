"""The files of a GLUE submission: names, spellings, order, and what is refused."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from data_utils.benchmarks.submission import main, write_submission
from data_utils.errors import UserError
from experiments.glue.submission import PARTS

ELEVEN = "CoLA SST-2 MRPC STS-B QQP MNLI-m MNLI-mm QNLI RTE WNLI AX"
SPELLINGS = {
    "CoLA": "1",
    "SST-2": "0",
    "MRPC": "1",
    "STS-B": 3.25,
    "QQP": "0",
    "MNLI-m": "neutral",
    "MNLI-mm": "contradiction",
    "QNLI": "not_entailment",
    "RTE": "entailment",
    "WNLI": "1",
    "AX": "entailment",
}

SHORT = {name: replace(part, rows=1) for name, part in PARTS.items()}  # a test set of one row


def predict(directory: Path, name: str, *predictions: object, uids: list[object] | None = None) -> None:
    rows = zip(uids or list(map(str, range(len(predictions)))), predictions, strict=True)
    directory.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"uid": uid, "prediction": prediction, "scores": {}}) for uid, prediction in rows]
    (directory / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def predictions(tmp_path):
    for name, prediction in SPELLINGS.items():
        predict(tmp_path / "runs", PARTS[f"{name}.tsv"].predictions, prediction)
    return tmp_path / "runs"


def test_eleven_files_and_a_zip(predictions, tmp_path):
    names, _ = write_submission(SHORT, [predictions], tmp_path / "out")
    assert names == [f"{name}.tsv" for name in ELEVEN.split()]
    for name, prediction in SPELLINGS.items():
        shown = "3.250" if name == "STS-B" else prediction
        assert (tmp_path / "out" / f"{name}.tsv").read_text() == f"index\tprediction\n0\t{shown}\n"
    with zipfile.ZipFile(tmp_path / "out" / "submission.zip") as archive:
        assert archive.namelist() == names
        assert archive.read("RTE.tsv") == (tmp_path / "out" / "RTE.tsv").read_bytes()
    assert len(list((tmp_path / "out").iterdir())) == 12


def test_rows_are_sorted_by_number_not_by_text(tmp_path):
    predict(tmp_path, "rte_test", *["entailment"] * 3, uids=["10", "9", "100"])
    write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)
    lines = (tmp_path / "out" / "RTE.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["index", "9", "10", "100"]


def test_scores_stay_in_the_range_of_stsb(tmp_path):
    predict(tmp_path, "stsb_test", -0.4, 2, "5.9")
    write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)
    lines = (tmp_path / "out" / "STS-B.tsv").read_text().splitlines()
    assert lines == ["index\tprediction", "0\t0.000", "1\t2.000", "2\t5.000"]


def test_predictions_from_several_folders(predictions, tmp_path):
    predict(tmp_path / "other", "rte_test", "not_entailment")
    (predictions / "rte_test.jsonl").unlink()
    names, _ = write_submission(SHORT, [predictions, tmp_path / "other"], tmp_path / "out")
    assert len(names) == 11
    assert "not_entailment" in (tmp_path / "out" / "RTE.tsv").read_text()


def test_the_same_test_set_twice(predictions, tmp_path):
    predict(tmp_path / "other", "rte_test", "entailment")
    with pytest.raises(UserError, match=r"other/rte_test.jsonl: .*runs/rte_test.jsonl is of the same test set"):
        write_submission(PARTS, [predictions, tmp_path / "other"], tmp_path / "out")


def test_missing_tasks_are_named(predictions, tmp_path, capsys):
    (predictions / "ax_test.jsonl").unlink()
    (predictions / "mnli_test_matched.jsonl").unlink()
    arguments = ["--predictions", str(predictions), "--output", str(tmp_path / "out")]
    assert main(PARTS, description=None, arguments=arguments) == 2
    assert "no mnli_test_matched.jsonl, ax_test.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(PARTS, description=None, arguments=[*arguments, "--allow-missing"]) == 0
    assert not (tmp_path / "out" / "AX.tsv").exists()
    assert (tmp_path / "out" / "RTE.tsv").exists()


def test_nothing_at_all_is_an_error_even_if_missing_files_are_allowed(tmp_path):
    with pytest.raises(UserError, match="rte_test"):
        write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)


@pytest.mark.parametrize(
    ("name", "prediction", "message"),
    [
        ("rte_test", "1", "prediction '1' is none of entailment, not_entailment"),
        ("cola_test", "acceptable", "prediction 'acceptable' is none of 0, 1"),
        ("mnli_test_matched", "not_entailment", "is none of entailment, neutral, contradiction"),
        ("stsb_test", "NaN", "prediction 'NaN' is not a number"),
        ("stsb_test", None, "is not a number"),
    ],
)
def test_wrong_predictions(tmp_path, name, prediction, message):
    predict(tmp_path, name, prediction)
    with pytest.raises(UserError, match=f"{name}.jsonl:1: .*{message}"):
        write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["{", "[]", '{"uid": "a", "prediction": "1"}', '{"uid": "1"}', "7"])
def test_wrong_lines(tmp_path, line):
    (tmp_path / "cola_test.jsonl").write_text(f'{{"uid": "0", "prediction": "1"}}\n{line}\n')
    with pytest.raises(UserError, match=r"cola_test\.jsonl:2: expected an object"):
        write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)


def test_counts_are_compared_with_the_official_ones(tmp_path, capsys):
    predict(tmp_path, "wnli_test", *["1"] * 146, uids=[0, *range(145)])
    arguments = ["--predictions", str(tmp_path), "--output", str(tmp_path / "out")]
    only_wnli = {"WNLI.tsv": PARTS["WNLI.tsv"]}
    problem = "wnli_test.jsonl: 1 twice, 1 missing; the official test set has the rows 0 to 145"
    assert main(only_wnli, description=None, arguments=arguments) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(only_wnli, description=None, arguments=[*arguments, "--allow-missing"]) == 0
    assert f"warning: {tmp_path / problem}" in capsys.readouterr().err


def test_a_file_without_predictions_is_refused(tmp_path):
    predict(tmp_path, "cola_test")
    with pytest.raises(UserError, match=r"cola_test.jsonl: the file is empty"):
        write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)


def test_an_output_that_is_a_file_is_one_line(predictions, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    for output in (tmp_path / "out", tmp_path / "out" / "below"):
        arguments = ["--predictions", str(predictions), "--output", str(output)]
        assert main(SHORT, description=None, arguments=arguments) == 2
        assert f"{output}: cannot be written" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_complete_test_set_gives_no_warning(tmp_path):
    predict(tmp_path, "wnli_test", *["1"] * 146)
    assert write_submission(PARTS, [tmp_path], tmp_path / "out", allow_missing=True)[1] == []
