"""Answers are those of the predictions file, or of the model, and stand beside the right rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from data_utils.errors import UserError
from mt_dnn.analyses.answers import Answers, NamedRun, answers_of
from mt_dnn.analyses.calibration import reliability
from mt_dnn.analyses.challenge import challenge
from mt_dnn.analyses.confusion import confusion, counted, rates
from mt_dnn.cli.main import main
from tests.workspace import rows_of


def made(gold: list[int], predicted: list[int], *, name: str = "run", **further: object) -> Answers:
    labels = ("a", "b", "c")
    return Answers(
        run=NamedRun(name, Path(name)),
        task="t",
        split="dev",
        labels=labels,
        uids=[str(number) for number in range(len(gold))],
        gold=np.array(gold),
        predicted=np.array(predicted),
        probabilities=np.eye(3)[predicted],
        **further,  # type: ignore[arg-type]
    )


def analyze(*arguments: object) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["analyze", *map(str, arguments)])
    assert exit_.value.code == 0


def test_answers_of_the_file_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    written = answers_of(NamedRun("none", folder / "none"), "same", "dev", with_rows=True)
    (bare := tmp_path / "bare").mkdir()
    shutil.copytree(folder / "none" / "checkpoints", bare / "checkpoints", symlinks=True)
    predicted = answers_of(NamedRun("bare", bare), "same", "dev", with_rows=True)
    rows = rows_of("same", 40, 2)
    assert [written.labels[label] for label in written.gold] == [row[1] for row in rows]
    assert written.texts == predicted.texts == [row[2:] for row in rows]
    assert (written.predicted == predicted.predicted).all() and (written.gold == predicted.gold).all()
    np.testing.assert_allclose(written.probabilities, predicted.probabilities, atol=2e-6)


def test_gold_labels_in_the_file_need_no_rows(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yml", "task_defs.yml"):
        shutil.copy(folder / "none" / name, run / name)
    record = {"uid": "x", "prediction": "same", "scores": {"different": 0.25, "same": 0.75}, "gold": "different"}
    (run / "predictions").mkdir()
    (run / "predictions" / "same_carved.jsonl").write_text(json.dumps(record) + "\n")
    answers = answers_of(NamedRun("r", run), "same", "carved")
    assert (answers.gold.tolist(), answers.predicted.tolist(), answers.right.tolist()) == ([0], [1], [False])
    assert answers.probabilities.tolist() == [[0.25, 0.75]]


def test_rows_that_were_set_aside_are_found_among_the_training_rows(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    for name in ("config.yml", "task_defs.yml"):
        shutil.copy(folder / "none" / name, run / name)
    rows = rows_of("same", 48, 1)
    scores = {"different": 1.0, "same": 0.0}
    records = [{"uid": rows[number][0], "prediction": "different", "scores": scores} for number in (7, 2)]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "predictions" / "same_carved.jsonl").write_text(text)
    answers = answers_of(NamedRun("r", run), "same", "carved", with_rows=True)
    assert answers.texts == [rows[7][2:], rows[2][2:]]
    assert [answers.labels[label] for label in answers.gold] == [rows[7][1], rows[2][1]]


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("sme", "dev", "no task 'sme', did you mean 'same'?"),
        ("same", "test", "has no labels, so answers cannot be compared"),
        ("same", "dv", "no such file"),
    ],
)
def test_what_cannot_be_compared_is_named(folder: Path, task: str, split: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        answers_of(NamedRun("none", folder / "none"), task, split)


def test_a_name_may_stand_before_the_folder(tmp_path: Path) -> None:
    assert NamedRun.parse("plain=runs/a") == NamedRun("plain", Path("runs/a"))
    assert NamedRun.parse("runs/a") == NamedRun("a", Path("runs/a"))
    assert NamedRun.parse("runs/lr=3") == NamedRun("lr=3", Path("runs/lr=3"))
    (tmp_path / "lr=3").mkdir()
    assert NamedRun.parse(str(tmp_path / "lr=3")).folder == tmp_path / "lr=3"


def test_confusion_matrices_are_those_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 7, 300):
        gold, predicted = rng.integers(3, size=(2, size)).tolist()
        counts = counted(made(gold, predicted))
        assert (counts == confusion_matrix(gold, predicted, labels=[0, 1, 2])).all()
        expected = confusion_matrix(gold, predicted, labels=[0, 1, 2], normalize="true")
        np.testing.assert_allclose(np.nan_to_num(rates(counts)), expected)


def test_the_difference_is_the_second_run_minus_the_first() -> None:
    record = confusion([made([0, 0, 1], [0, 1, 1]), made([0, 0, 1], [0, 0, 0])])
    assert [run["accuracy"] for run in record["runs"]] == pytest.approx([2 / 3, 2 / 3])
    assert record["difference"] == [[0.5, -0.5, 0.0], [1.0, -1.0, 0.0], [None, None, None]]
    assert confusion([made([0], [1])])["difference"] is None


def test_ece_of_an_example_computed_by_hand() -> None:
    """Bins of a third: (0, 1/3] holds 0.3; (1/3, 2/3] holds 0.5 and 2/3, its upper bound; (2/3, 1] holds 0.9 and 1.

    |0 − 0.3|·1/5 + |1/2 − 7/12|·2/5 + |1 − 0.95|·2/5 = 0.06 + 1/30 + 0.02.
    """
    found = reliability(np.array([0.3, 0.5, 2 / 3, 0.9, 1.0]), np.array([False, True, False, True, True]), 3)
    assert found["ece"] == pytest.approx(0.06 + 1 / 30 + 0.02)
    assert [entry["rows"] for entry in found["bins"]] == [1, 2, 2]
    assert [entry["accuracy"] for entry in found["bins"]] == [0.0, 0.5, 1.0]
    assert found["bins"][1]["confidence"] == pytest.approx(7 / 12)


def test_a_calibrated_model_has_no_error() -> None:
    """15 bins; in each the share of right answers is the confidence."""
    confidence = np.repeat((np.arange(15) + 0.5) / 15, 30)
    right = np.concatenate([np.arange(30) < 2 * number + 1 for number in range(15)])
    assert reliability(confidence, right)["ece"] == pytest.approx(0, abs=1e-12)
    assert reliability(confidence, ~right)["ece"] > 0.4


def test_parts_of_a_challenge_set_have_their_accuracy() -> None:
    columns = {"heuristic": ["x", "x", "y", "y"], "subcase": ["1", "2", "2", "2"]}
    record = challenge([made([0, 0, 1, 1], [0, 1, 1, 1], columns=columns)], ["heuristic", "subcase"])
    found = {tuple(part["part"].values()): (part["rows"], part["accuracy"], part["gold"]) for part in record["parts"]}
    assert found == {
        (): (4, 0.75, ["a", "b"]),
        ("x", "1"): (1, 1.0, ["a"]),
        ("x", "2"): (1, 0.0, ["a"]),
        ("y", "2"): (2, 1.0, ["b"]),
    }
    assert record["parts"][0]["constant"] == 0.5 and "constant" not in record["parts"][1]
    with pytest.raises(UserError, match=r"by: no column 'subcse' in the rows of t \(columns: heuristic, subcase\)"):
        challenge([made([0], [0], columns={"heuristic": ["x"], "subcase": ["1"]})], ["subcse"])


def test_sets_without_the_columns_are_a_part() -> None:
    """As SNLI-CAD beside HANS."""
    sets = [made([0], [0], columns={"heuristic": ["x"]}), made([1], [0])]
    assert [part["part"] for part in challenge(sets, ["heuristic"])["parts"]] == [{}, {"heuristic": "x"}, {}]


def test_commands_write_numbers_and_print_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [f"plain={folder / 'none'}", f"tat={folder / 'tat'}"]
    common = ["--task", "same", "--output", tmp_path / "out", "--no-figures"]
    analyze("confusion", *runs, *common)
    record = json.loads((tmp_path / "out" / "confusion-same-dev.json").read_text())
    predictions = (folder / "tat" / "predictions" / "same_dev.jsonl").read_text().splitlines()
    answers = [json.loads(line)["prediction"] for line in predictions]
    gold = [row[1] for row in rows_of("same", 40, 2)]
    assert record["runs"][1]["counts"] == confusion_matrix(gold, answers, labels=record["labels"]).tolist()
    analyze("calibration", *runs, *common)
    analyze("challenge", *runs, *common, "--split", "dev")
    printed = capsys.readouterr().out
    assert "plain: different" in printed and "ECE %" in printed and "plain: same/dev" in printed
