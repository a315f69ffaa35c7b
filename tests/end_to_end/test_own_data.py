"""From a file of rows to answers, as a user types it: init-task, the command that it prints, predict, evaluate."""

from __future__ import annotations

import json
import random
import shlex
from pathlib import Path

import pytest
import yaml

from data_utils.task_def import load_task_defs
from mt_dnn.cli.main import main
from tests.tiny import WORDS, tiny_encoder
from tests.workspace import MORE_TASKS, rows_of, write_task

Capture = pytest.CaptureFixture[str]
FAST = ["device=cpu", "data.max_length=32", "train.batch_size=8", "train.max_steps=4"]


def run(capsys: Capture, *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    captured = capsys.readouterr()
    assert exit_.value.code == 0, captured.err
    return captured.out, captured.err


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_encoder(tmp_path / "encoder")
    monkeypatch.chdir(tmp_path)


def trained(capsys: Capture, *arguments: str) -> tuple[str, str]:
    """Types init-task, and then the command that it prints. Returns what both print."""
    first, _ = run(capsys, "init-task", *arguments, "--encoder", "encoder")
    program, *command = shlex.split(first.splitlines()[-1].removeprefix("next: "))
    assert program == "mt-dnn"
    return first, run(capsys, *command, *FAST)[0]


def sentences(count: int) -> list[str]:
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS[:14], k=6)) for _ in range(count)]


def test_a_csv_with_names_of_its_own(capsys: Capture) -> None:
    texts = sentences(40)
    rows = [f'"{text}, {text}",{["negative", "positive"][number % 2]}' for number, text in enumerate(texts)]
    Path("my reviews.csv").write_text("\n".join(["Review Text,Sentiment", *rows]) + "\n")
    first, second = trained(capsys, "my reviews.csv")
    assert "  --label  Sentiment: negative (20), positive (20)\n" in first and "  --text   Review Text (" in first
    assert "my_reviews: train 36, carved 4 rows" in second
    output, errors = run(capsys, "predict", "runs/my_reviews-seed1", "--input", "my reviews.csv")
    answers = [json.loads(line) for line in output.splitlines()]
    assert [answer["uid"] for answer in answers] == [f"{number}" for number in range(1, 41)] and not errors
    assert {answer["prediction"] for answer in answers} <= {"negative", "positive"}
    Path("new.jsonl").write_text("".join(json.dumps({"premise": f"{text}, {text}"}) + "\n" for text in texts))
    assert run(capsys, "predict", "runs/my_reviews-seed1", "--input", "new.jsonl")[0] == output
    written = Path("runs/my_reviews-seed1/predictions/my_reviews_carved.jsonl").read_text().splitlines()
    by_uid = {answer["uid"]: answer["prediction"] for answer in answers}
    assert len(written) == 4
    for line in written:  # a uid is the number of the row in the file, also of a part of the rows
        assert by_uid[json.loads(line)["uid"]] == json.loads(line)["prediction"]
    again = (
        "my_reviews: {task_type: classification, data_format: single, labels: [negative, positive], splits: [test], "
    )
    again += "columns: {premise: Review Text, label: Sentiment}, files: {test: my reviews.csv}}"
    Path("again.yml").write_text(again)
    table, errors = run(capsys, "evaluate", "runs/my_reviews-seed1", "--task-defs", "again.yml")
    assert "my_reviews (test)" in table and not errors
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "runs/my_reviews-seed1"])
    assert (
        exit_.value.code == 2 and "my_reviews: no split but train; name one in a task file" in capsys.readouterr().err
    )
    output, _ = run(capsys, "prepare", "my_reviews.yml", "--data", ".", "--encoder", "encoder")
    assert output.splitlines()[-1].split()[:3] == ["my_reviews", "train", "40"]
    run(capsys, "distill", "runs/my_reviews-seed1", "--data", ".", "--output", "taught")
    taught = Path("taught/my_reviews_train.tsv").read_text().splitlines()
    assert taught[0].split("\t") == ["uid", "Review Text", "Sentiment", "soft_label"] and len(taught) == 41
    student = ["data.dir=taught", "distillation.weight=0.5", "output=student", *FAST]
    assert "train 36, carved 4 rows" in run(capsys, "train", "my_reviews_run.yml", *student)[0]
    vectors = run(capsys, "embed", "runs/my_reviews-seed1", "--input", "my reviews.csv", "--output", "v.npy")[1]
    assert "my reviews.csv: the texts are Review Text" in vectors


def test_a_study_of_one_file_shows_its_carved_rows(capsys: Capture) -> None:
    rows = [f"{text},{['good', 'bad'][number % 2]}" for number, text in enumerate(sentences(40))]
    Path("mood.csv").write_text("\n".join(["Text,Mood", *rows]) + "\n")
    run(capsys, "init-task", "mood.csv", "--encoder", "encoder")
    study = {
        "title": "Moods",
        "base": "mood_run.yml",
        "settings": {"device": "cpu", "data.max_length": 32, "train.batch_size": 8, "train.max_steps": 2},
        "axes": {"method": {"plain": {"adversary": "none"}, "rdrop": {"adversary": "preset:rdrop/paper"}}},
        "show": {"rows": "method", "reference": "plain"},
    }
    Path("study.yml").write_text(yaml.safe_dump(study))
    run(capsys, "sweep", "study.yml")
    table, _ = run(capsys, "report", "study.yml")
    assert "mood carved accuracy" in table and "mood carved: 4 rows, too few to compare methods." in table
    for command in (["sweep"], ["sweep", "--dry-run"], ["report"]):  # nothing is trained
        with pytest.raises(SystemExit) as exit_:
            main([command[0], "study.yml", "data.carve=null", "--runs", "none", *command[1:]])
        assert exit_.value.code == 2 and not Path("none").exists()
        error = capsys.readouterr().err
        assert "study.yml: show.split: no task that is trained has rows besides train; to show carved rows, " in error
        assert "show: {split: carved}" in error and "None" not in error


def test_conll_files_for_every_split(capsys: Capture) -> None:
    for split in ("train", "dev", "test"):
        lines = [
            "\n".join(
                f"{number + 1}\t{word}\t{'B-X' if word == 'cat' else 'O'}" for number, word in enumerate(text.split())
            )
            for text in sentences(24)
        ]
        Path(f"tags_{split}.conll").write_text("# made up\n\n" + "\n\n".join(lines) + "\n")
    first, second = trained(capsys, "tags_train.conll", "--text", "2")
    assert "--type   sequence_labelling" in first and "tags: train 24, dev 24, test 24 rows" in second
    assert [line.split()[:3] for line in second.splitlines() if "entity_f1" in line] == [
        ["tags", "(dev)", "24"],
        ["tags", "(test)", "24"],
    ]
    output, _ = run(capsys, "predict", "runs/tags-seed1", "--input", "tags_test.conll")
    assert [len(json.loads(line)["prediction"]) for line in output.splitlines()] == [6] * 24
    table, errors = run(capsys, "evaluate", "runs/tags-seed1", "--split", "test")
    assert "tags (test)" in table and not errors


def test_scores_in_jsonl(capsys: Capture) -> None:
    texts = sentences(20)
    for split in ("train", "dev"):
        records = [
            {"Question 1": text, "Question 2": text, "how alike": number / 4} for number, text in enumerate(texts)
        ]
        Path(f"{split} pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    options = ["--dev", "dev pairs.jsonl", "--label", "how alike", "--name", "alike"]
    first, second = trained(capsys, "train pairs.jsonl", *options)
    assert "  --label  how alike: numbers from 0 to 4.75\n" in first and "alike: train 20, dev 20 rows" in second
    assert "alike (dev)" in second and "pearson" in second


@pytest.mark.parametrize("name", [name for name in MORE_TASKS if name not in ("linked", "chained")])
def test_rows_of_every_type_train_at_once(name: str, capsys: Capture) -> None:
    """Rows with our names of columns. The type is given where the rows do not say it."""
    known = MORE_TASKS[name]
    rows, labels = rows_of(name, 24, 1), [*known.get("labels", ())]
    if name == "graded":  # an order of labels is read from numbers
        rows, labels = [(uid, f"{labels.index(label)}", *texts) for uid, label, *texts in rows], ["0", "1", "2", "3"]
    if name == "found":  # rows with the same question are not divided
        rows = [(uid, label, f"{question} {uid}", context) for uid, label, question, context in rows]
    file = write_task(Path(), name, "train", rows).rename(f"{name}.tsv")
    told = ["--type", known["task_type"]] if known["task_type"] in ("ordinal", "masked_lm") else []
    _, second = trained(capsys, f"{file}", *told)
    written = load_task_defs(f"{name}.yml")[name]
    assert (written.task_type, written.data_format) == (known["task_type"], known["data_format"])
    assert sorted(written.labels) == sorted(labels) and not written.columns
    assert f"{name}: train " in second and f"{name} (carved)" in second


def test_what_cannot_be_told_is_asked_for(capsys: Capture) -> None:
    Path("t.csv").write_text("Body,Stars,Grade\n" + "a text of words,1,b\nanother text of words,2,a\n" * 4)
    with pytest.raises(SystemExit) as exit_:
        main(["init-task", "t.csv"])
    assert exit_.value.code == 2 and not list(Path().glob("*.yml"))
    assert capsys.readouterr().err == (
        "mt-dnn: t.csv: which column has the labels: Stars or Grade? Say --label COLUMN\n"
    )


def test_files_in_two_folders(capsys: Capture, tmp_path: Path) -> None:
    """Another folder of rows has its own dev rows, and never those of the first."""
    for split in ("train", "dev"):
        (tmp_path / f"data/{split}").mkdir(parents=True)
        rows = [f"{text},{['bad', 'good'][number % 2]}" for number, text in enumerate(sentences(16))]
        Path(f"data/{split}/{split}.csv").write_text("\n".join(["Text,Grade", *rows]) + "\n")
    trained(capsys, "data/train/train.csv", "--dev", "data/dev/dev.csv", "--name", "t")
    assert "t (dev)" in run(capsys, "evaluate", "runs/t-seed1")[0]
    Path("data/new").mkdir()
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "runs/t-seed1", "--data", "data/new"])
    assert exit_.value.code == 2 and "no rows in data/new for: t dev" in capsys.readouterr().err
    for output in ("data/taught", "taught"):  # a student needs only this folder
        run(capsys, "distill", "runs/t-seed1", "--data", "data", "--output", output)
        student = [f"data.dir={output}", "distillation.weight=0.5", f"output=runs/{output}", *FAST]
        assert "t: train 16, dev 16 rows" in run(capsys, "train", "t_run.yml", *student)[0]


@pytest.mark.parametrize(("command", "name"), [("predict", "rows.jsonl"), ("embed", "rows.parquet")])
def test_answers_do_not_replace_the_rows(command: str, name: str, capsys: Capture) -> None:
    Path(name).write_bytes(b"rows")
    Path("again").symlink_to(name)
    for output in (name, f"encoder/../{name}"):
        with pytest.raises(SystemExit) as exit_:
            main([command, "encoder", "--input", "again", "--output", output])
        assert exit_.value.code == 2 and Path(name).read_bytes() == b"rows"
        assert capsys.readouterr().err == (
            f"mt-dnn: {output}: has rows, and would be replaced; choose another name with --output\n"
        )
