"""From runs to a table: a tiny sweep, its report in every format, runs compared and listed."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mt_dnn.cli.main import main
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.report import Report
from mt_dnn.studies.study import load_study
from mt_dnn.studies.sweep import Sweep
from tests.workspace import make_workspace

MODES = [(mode, seed) for mode in ("none", "rdrop") for seed in (1, 2)]
Command = Callable[..., str]
STUDY = {
    "title": "Two methods & 2 tasks_",
    "axes": {
        "task": ["same", "negated"],
        "method": {"plain": {}, "rdrop": {"adversary.mode": "rdrop"}},
    },
    "settings": {
        "evaluation.predictions": {"splits": "labelled", "text": True},
        "train.epochs": 3,
        "optimizer.name": "adamw",
        "optimizer.lr": 7e-3,
        "optimizer.lookahead.enabled": False,
    },
    "seeds": 2,
    "show": {
        "rows": "method",
        "columns": "task",
        "average": "task_means",
        "reference": "plain",
        "further": ["time_ratio", "regularizer"],
    },
    "published": {"rows": {"plain": "standard"}, "table": "table1"},
}
PAPER = {
    "table1": {"columns": {"same": ["accuracy", "f1"], "other": ["mcc"]}, "rows": {"standard": [[90.5, 80.0], 55.5]}}
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_workspace(folder)
    PAPER["table1"]["rows"]["standard"] = {"same": [90.5, 80.0], "other": [55.5]}  # type: ignore[index]
    (folder / "paper.yml").write_text(yaml.safe_dump(PAPER))
    published = {"file": str(folder / "paper.yml"), **STUDY["published"]}  # type: ignore[dict-item]
    study = {**STUDY, "base": str(folder / "run.yml"), "published": published}
    (folder / "study.yml").write_text(yaml.safe_dump(study, sort_keys=False))
    assert Sweep(Grid(load_study(folder / "study.yml")), folder / "runs")(lambda text: None) == 0
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command and returns what it prints."""

    def command(*arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert exit_.value.code == code, err
        return out if code == 0 else err

    return command


def of_study(folder: Path, *options: object) -> list[object]:
    return ["report", folder / "study.yml", "--runs", folder / "runs", *options]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((folder / "runs").glob("*/record.json"))]


def test_every_cell_is_recomputed_from_the_raw_predictions(folder: Path, run: Command) -> None:
    """With numpy from the files of predictions alone, past everything that makes the table."""
    assert len(records(folder)) == 8
    cells = {(c["row"], c["column"]): c for c in csv.DictReader(io.StringIO(run(*of_study(folder, "--format", "csv"))))}
    scores: dict[tuple[str, str], list[float]] = {}
    for record in sorted(records(folder), key=lambda record: record["seed"]):
        row, (task,) = "rdrop" if record["mode"] == "rdrop" else "plain", record["tasks"]
        file = folder / "runs" / record["run"] / "predictions" / f"{task}_dev.jsonl"
        made = [json.loads(line) for line in file.read_text().splitlines()]
        yes = "same" if task == "same" else "yes"
        p, g = (np.array([line[key] == yes for line in made]) for key in ("prediction", "gold"))
        hits = int((p & g).sum())
        if task == "same":
            scores.setdefault((row, "same accuracy"), []).append(100 * float((p == g).mean()))
            f1 = 2 * hits / (int(p.sum()) + int(g.sum())) if p.any() or g.any() else 0.0
            scores.setdefault((row, "same f1"), []).append(100 * f1)
        else:
            mcc = float(np.corrcoef(p, g)[0, 1]) if p.any() and not p.all() else 0.0
            scores.setdefault((row, "negated mcc"), []).append(100 * mcc)
    assert len(scores) == 6
    for key, values in scores.items():
        assert float(cells[key]["mean"]) == pytest.approx(np.mean(values))
        assert float(cells[key]["sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert int(cells[key]["n"]) == 2
    for row in ("plain", "rdrop"):
        same = (np.array(scores[row, "same accuracy"]) + scores[row, "same f1"]) / 2
        assert float(cells[row, "average"]["mean"]) == pytest.approx(np.mean([same, scores[row, "negated mcc"]]))
    times = {key: sum(r["cpu_seconds"] for r in records(folder) if (r["mode"], r["seed"]) == key) for key in MODES}
    ratios = [times["rdrop", seed] / times["none", seed] for seed in (1, 2)]
    assert float(cells["rdrop", "time_ratio"]["mean"]) == pytest.approx(np.mean(ratios))
    assert cells["plain", "time_ratio"]["mean"] == "1.0"
    assert cells["plain", "regularizer"]["mean"] == "" and float(cells["rdrop", "regularizer"]["mean"]) > 0


def test_records_alone_make_the_same_table(folder: Path, run: Command, tmp_path: Path) -> None:
    """Committed records are enough: no run folders, no data, no weights. Only tests over examples need predictions."""
    file = tmp_path / "records.jsonl"
    here = run(*of_study(folder, "--format", "csv", "--save-records", file))
    assert len(file.read_text().splitlines()) == 8
    data, encoder = folder / "data", folder / "encoder"
    data.rename(tmp_path / "data")
    encoder.rename(tmp_path / "encoder")
    try:
        there = run("report", folder / "study.yml", "--runs", tmp_path / "none", "--records", file, "--format", "csv")
    finally:
        (tmp_path / "data").rename(data)
        (tmp_path / "encoder").rename(encoder)
    ours, theirs = (list(csv.DictReader(io.StringIO(text))) for text in (here, there))
    assert len(ours) == len(theirs)
    for first, second in zip(ours, theirs, strict=True):
        assert {k: v for k, v in first.items() if "examples" not in k} == {
            k: v for k, v in second.items() if "examples" not in k
        }
        assert not any(value for key, value in second.items() if key.startswith("examples"))
    assert any(first["examples_p_holm"] for first in ours)


def test_markdown_has_the_table_the_paper_and_what_has_to_be_said(folder: Path, run: Command) -> None:
    text = run(*of_study(folder, "--format", "markdown"))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "|  | same accuracy | same f1 | negated mcc | average | time_ratio | regularizer | other mcc |"
    assert any(row.startswith("| &nbsp;&nbsp;published | 90.5 | 80.0 | — | — |") and "| 55.5 |" in row for row in rows)
    assert "## Minus plain" in text and "over examples" in text
    assert f"Encoder: {folder / 'encoder'}." in text and "Average: the mean over tasks" in text
    assert f"Made by `mt-dnn report {folder / 'study.yml'} --runs {folder / 'runs'}`." in text


def test_the_terminal_shows_every_cell(folder: Path, run: Command, tmp_path: Path) -> None:
    text = run(*of_study(folder))
    assert "same accuracy" in text and "rdrop" in text and "±" in text and "\x1b" not in text
    run(*of_study(folder, "--output", tmp_path / "table.txt"))
    assert (tmp_path / "table.txt").read_text() == text


def test_on_a_narrow_terminal_a_table_goes_on_below_itself(folder: Path) -> None:
    commands = {"sweep": "mt-dnn sweep s.yml", "report": "mt-dnn report s.yml"}
    text = Report(Grid(load_study(folder / "study.yml")), commands, folder / "runs").text("terminal", width=60)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b[1m" in text and max(map(len, plain.splitlines())) <= 60
    assert plain.count("  published") == plain.count("  difference") > 1 and plain.count("Minus plain") > 1
    header = [
        text.strip() for line in plain.splitlines() if line.startswith("┃") for text in line.split("┃") if text.strip()
    ]
    columns = ["same accuracy", "same f1", "negated mcc", "average", "time_ratio", "regularizer", "other mcc"]
    assert header[:7] == columns


def test_the_command_writes_a_page_with_links_to_the_runs(folder: Path, run: Command) -> None:
    assert run(*of_study(folder, "--html", folder / "page")) == f"{folder / 'page' / 'index.html'}\n"
    links = re.findall(r'<a href="([^"]+)/"', (folder / "page" / "index.html").read_text())
    assert {(folder / "page" / link).resolve().name for link in links} == {record["run"] for record in records(folder)}
    assert all((folder / "page" / link / "record.json").is_file() for link in links)


def test_nothing_made_yet_is_all_missing(folder: Path, run: Command, tmp_path: Path) -> None:
    text = run("report", folder / "study.yml", "train.epochs=3", "--runs", tmp_path / "none", "--format", "markdown")
    assert "| plain | missing | missing | missing | — |" in text
    assert f"They are made by: mt-dnn sweep {folder / 'study.yml'} train.epochs=3 --runs {tmp_path / 'none'}" in text
    missing = tmp_path / "none.jsonl"
    assert f"{missing}: no such" in run("report", folder / "study.yml", "--records", missing, code=2)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(folder: Path, run: Command, tmp_path: Path) -> None:
    run(*of_study(folder, "--format", "latex", "--output", tmp_path / "table.tex"))
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{table}\\end{document}\n"
    (tmp_path / "main.tex").write_text(document)
    made = subprocess.run(["pdflatex", "-halt-on-error", "main"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000
    assert "Overfull" not in made.stdout


def test_latex_has_rules_and_no_bare_signs(folder: Path, run: Command) -> None:
    text = run(*of_study(folder, "--format", "latex"))
    rows = [line for line in text.splitlines() if not line.startswith("%")]
    assert text.count("\\toprule") == text.count("\\bottomrule") == 3
    assert "\\caption{Two methods \\& 2 tasks\\_}" in rows and "$\\pm$" in text
    assert all(line.isascii() for line in rows)


def names(folder: Path, task: str, seed: int = 1) -> list[Path]:
    """The run folders of a task with a seed: plain, then rdrop."""
    here = [record for record in records(folder) if record["seed"] == seed and record["tasks"] == [task]]
    found = {record["mode"]: folder / "runs" / record["run"] for record in here}
    return [found["none"], found["rdrop"]]


def predicted(run: Path) -> dict[str, dict[str, Any]]:
    lines = (run / "predictions" / "negated_dev.jsonl").read_text().splitlines()
    return {line["uid"]: line for line in map(json.loads, lines)}


def test_two_runs_are_compared_example_by_example(folder: Path, run: Command) -> None:
    flipped = 0
    for seed in (1, 2):
        pair = names(folder, "negated", seed)
        (found,) = json.loads(run("compare", *pair, "--json"))
        made = [predicted(path) for path in pair]
        right = [{uid for uid, line in lines.items() if line["prediction"] == line["gold"]} for lines in made]
        assert {flip["uid"] for flip in found["only_first"]} == right[0] - right[1]
        assert {flip["uid"] for flip in found["only_second"]} == right[1] - right[0]
        summaries = [json.loads((path / "summary.json").read_text())["results"][0]["scores"]["mcc"] for path in pair]
        assert found["scores"]["mcc"] == pytest.approx(summaries)
        assert found["tests"]["mcc"]["difference"] == pytest.approx(summaries[0] - summaries[1])
        assert found["mcnemar"] == pytest.approx(mcnemar(len(right[0] - right[1]), len(right[1] - right[0])))
        for flip in found["only_first"] + found["only_second"]:
            flipped += 1
            assert flip["texts"] == {"first": made[0][flip["uid"]]["first"]}
            assert {flip["first"], flip["second"]} == {"yes", "no"}
    assert flipped
    text = run("compare", *names(folder, "negated", 2), "--flips", "1")
    assert "negated (dev)" in text and "McNemar's exact test: p = " in text


def mcnemar(first: int, second: int) -> float:
    tail = sum(comb(first + second, k) for k in range(min(first, second) + 1)) / 2 ** (first + second)
    return min(1.0, 2 * tail)


def test_what_cannot_be_compared_is_one_line(folder: Path, run: Command, tmp_path: Path) -> None:
    first, second = names(folder, "same")[0], names(folder, "negated")[0]
    message = run("compare", first, second, code=2)
    assert "no labelled split that both have predicted; train both with " in message and message.count("\n") == 1
    assert "is no run folder" in run("compare", tmp_path, second, code=2)
    shorter = tmp_path / "shorter"
    shutil.copytree(first, shorter)
    file = shorter / "predictions" / "same_dev.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[1:]))
    assert "same dev: the runs have predicted different rows" in run("compare", first, shorter, code=2)
    file.write_bytes(b"\xff")
    assert "same_dev.jsonl:1: not UTF-8" in run("compare", shorter, first, code=2)
    file.unlink()
    file.symlink_to("/dev/zero")  # reading it would never end
    assert "same_dev.jsonl: is a device or a socket, not a file" in run("compare", shorter, first, code=2)


def test_runs_with_other_rows_are_named_and_the_report_goes_on(folder: Path, run: Command, tmp_path: Path) -> None:
    target = tmp_path / "runs"
    shutil.copytree(folder / "runs", target)
    first, second = (target / path.name for path in names(folder, "same"))
    file = second / "predictions" / "same_dev.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[1:]))
    text = run("report", folder / "study.yml", "--runs", target, "--format", "markdown")
    assert f"Not compared over examples of same dev: {second.name} and {first.name} (the runs have" in text
    assert text.count("Not compared") == 1 and "## Minus plain" in text


def test_runs_are_listed_with_their_state(folder: Path, run: Command, tmp_path: Path) -> None:
    from mt_dnn.runs.folder import locked

    target = tmp_path / "all"
    shutil.copytree(folder / "runs", target)
    cut_off, failed, running = sorted(path for path in target.iterdir() if path.is_dir())[:3]
    (cut_off / "summary.json").unlink()
    (cut_off / "record.json").unlink()
    failure = {**json.loads((failed / "record.json").read_text()), "error": "the loss is not finite"}
    (failed / "record.json").write_text(json.dumps(failure))
    with locked(running):
        found = {entry["folder"]: entry for entry in json.loads(run("runs", target, "--json"))}
        text = run("runs", target)
    assert len(found) == 8
    assert found[str(cut_off)]["state"] == "cut off" and found[str(cut_off)]["score"] is None
    assert found[str(failed)]["state"] == "failed" and "failed: the loss is not finite" in text
    assert found[str(running)]["state"] == "running"
    for entry in found.values():
        if entry["state"] == "finished":
            summary = json.loads((Path(entry["folder"]) / "summary.json").read_text())
            assert entry["score"] == summary["selection"]["score"]
            assert (entry["seed"], entry["tasks"]) == (summary["seed"], [summary["name"].split("-")[0]])
    assert "no such folder" in run("runs", tmp_path / "none", code=2)
