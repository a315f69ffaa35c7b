"""Figures: every kind is written as png, svg and json; studies draw the numbers of their records."""

from __future__ import annotations

import builtins
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from data_utils.errors import UserError
from mt_dnn.analyses.start import ANALYSES
from mt_dnn.cli.main import main
from mt_dnn.studies.analysis_tables import TABLES, as_sheet
from mt_dnn.studies.curves import band, draw_axis, draw_learning_curves, draw_seed_spread, draw_time
from mt_dnn.studies.drawing import COLOURS, DASHES, MARKERS
from mt_dnn.studies.figures import DRAWN, NOT_DRAWN, draw_figures, load_grid
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.run_scores import learning_curve, mean_score
from mt_dnn.studies.show import Score
from mt_dnn.studies.study import load_study
from mt_dnn.studies.sweep import Sweep

matplotlib = pytest.importorskip("matplotlib", reason="the extra studies is not installed")

CLASSES = ["contradiction", "neutral", "entailment"]
RATES = [[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [None, None, None]]
MODEL = {"median": 0.25, "sd": 0.2, "clean_loss_median": 0.1, "clean_loss_sd": 0.1, "clean_losses": [0.1, 0.2]}
RECORDS: dict[str, dict[str, Any]] = {
    "confusion": {
        "kind": "confusion",
        "task": "mnli",
        "split": "dev",
        "labels": CLASSES,
        "runs": [{"name": name, "accuracy": 0.625, "rates": RATES} for name in ("plain", "tat")],
        "difference": [[0.1, -0.05, -0.05], [0.0, 0.0, 0.0], [None, None, None]],
    },
    "agreement": {
        "kind": "agreement",
        "task": "mnli",
        "split": "dev",
        "rows": {"5-0-0": 0, "4-1-0": 0, "3-2-0": 12, "3-1-1": 3},
        "runs": [
            {"name": name, "accuracy": {"5-0-0": None, "4-1-0": None, "3-2-0": value, "3-1-1": 0.5}}
            for name, value in (("plain", 0.6), ("plain", 0.7), ("tat", 0.8))
        ],
    },
    "loss_surface": {
        "kind": "loss_surface",
        "rows": 30,
        "axis": [-1.0, 0.0, 1.0],
        "surfaces": [
            {"name": name, "loss": 0.5, "losses": [[2, 1, 2], [1, 0.5, 1], [2, None, 2]]} for name in ("plain", "tat")
        ],
        "line": {"positions": [-0.5, 0.0, 0.5, 1.0, 1.5], "losses": [1, 0.5, 0.7, 0.5, 1]},
    },
    "robustness": {
        "kind": "robustness",
        "references": [
            {
                "name": name,
                "radii": [0.1, 0.2],
                "models": [{"name": other, "increases": [0.1, 0.4], **MODEL} for other in ("plain", "tat")],
            }
            for name in ("plain", "tat")
        ],
    },
    "challenge": {
        "kind": "challenge",
        "by": ["heuristic"],
        "parts": [
            {"name": name, "set": "hans/test", "part": part, "rows": 10, "accuracy": 0.5}
            for name in ("plain", "tat")
            for part in ({}, {"heuristic": "subsequence"}, {"heuristic": "constituent"})
        ],
    },
    "tally": {
        "kind": "tally",
        "labels": CLASSES,
        "epochs": [
            {"epoch": epoch, "probabilities": [[0.0, 0.4, 0.6], [0.5, 0.0, 0.5], [0.9, 0.1, 0.0]]} for epoch in (1, 2)
        ],
    },
    "calibration": {
        "kind": "calibration",
        "task": "mnli",
        "split": "dev",
        "runs": [
            {
                "name": name,
                "accuracy": 0.7,
                "ece": 0.05,
                "rows": 30,
                "bins": [
                    {"low": 0.4, "high": 0.5, "rows": 10, "confidence": 0.45, "accuracy": 0.5},
                    {"low": 0.9, "high": 1.0, "rows": 20, "confidence": 0.95, "accuracy": 0.8},
                ],
            }
            for name in ("plain", "tat")
        ],
    },
}


def check(paths: list[Path], folder: Path, name: str) -> str:
    """All three files are there and whole. Returns the texts of the svg, which are drawn as paths, with comments."""
    assert paths == [folder / f"{name}.{kind}" for kind in ("json", "png", "svg")]
    assert paths[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and paths[1].stat().st_size > 5000
    ElementTree.parse(paths[2])
    return " ".join(re.findall(r"<!-- (.*?) -->", paths[2].read_text()))


def test_every_analysis_has_a_figure_or_is_a_table() -> None:
    assert {*DRAWN, *NOT_DRAWN} == ANALYSES.keys() == TABLES.keys() and RECORDS.keys() == DRAWN.keys()


@pytest.mark.parametrize("kind", DRAWN)
def test_analyses_are_drawn(kind: str, tmp_path: Path) -> None:
    text = check(DRAWN[kind](RECORDS[kind], tmp_path / "out", "a"), tmp_path / "out", "a")
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == RECORDS[kind]
    shown = {"confusion": ["+10.0", "80.0", "accuracy 62.5 %"], "agreement": ["12 rows", "3 rows", "plain (2 runs)"]}
    shown |= {"calibration": ["tat (ECE 5.0 %)"], "challenge": ["subsequence (10)"], "tally": ["after epoch 2", "90.0"]}
    assert all(words in text for words in shown.get(kind, ["plain", "tat"])), text
    again = tmp_path / "again"
    DRAWN[kind](RECORDS[kind], again, "a")
    assert (again / "a.svg").read_bytes() == (tmp_path / "out" / "a.svg").read_bytes()


@pytest.mark.parametrize("kind", DRAWN)
def test_every_row_of_a_table_has_a_cell_for_each_column(kind: str) -> None:
    sheet = as_sheet("a title", RECORDS[kind])
    assert sheet.title == "a title" and sheet.rows
    assert {len(row.cells) for row in sheet.rows} == {len(sheet.header)}


def test_means_and_bands_are_those_of_numpy() -> None:
    values = [[0.5, 0.7, 0.9], [0.25]]
    means, low, high = band(values)
    np.testing.assert_allclose(means, [70, 25])
    np.testing.assert_allclose(high - means, [100 * np.std(values[0], ddof=1), 0])
    np.testing.assert_allclose(means - low, high - means)


CURVES: dict[str, Callable[[Path, str], list[Path]]] = {
    "axis": lambda folder, name: draw_axis(
        {"rapt": {"embed": [0.8, 0.82], "1": [0.83], "2": [0.84]}}, folder, name, axis="max_layer", score="accuracy"
    ),
    "time": lambda folder, name: draw_time(
        {"smart": {"scores": [0.8], "seconds": [20.0]}, "rapt": {"scores": [0.81, 0.83], "seconds": [15.0, 16.0]}},
        folder,
        name,
        reference="smart",
        score="accuracy",
    ),
    "learning_curves": lambda folder, name: draw_learning_curves(
        {"plain": [{1: 0.5, 2: 0.6}, {1: 0.4, 2: 0.7, 3: 0.7}]}, folder, name, score="accuracy"
    ),
    "seed_spread": lambda folder, name: draw_seed_spread(
        {"rte": {"plain": [0.6, 0.7], "tat": [0.65]}, "cola": {"plain": [0.2]}}, folder, name, score="accuracy"
    ),
}


@pytest.mark.parametrize("kind", CURVES)
def test_curves_are_drawn(kind: str, tmp_path: Path) -> None:
    text = check(CURVES[kind](tmp_path, "c"), tmp_path, "c")
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == kind
    shown = {"axis": ["max_layer", "embed", "1-2 runs"], "time": ["multiple of smart", "gain in accuracy"]}
    shown |= {"learning_curves": ["mean of 2 runs", "update"], "seed_spread": ["rte", "cola", "tat"]}
    assert all(words in text for words in shown[kind]), text


def test_styles_differ_in_colour_and_without_it() -> None:
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(set(DASHES)) == 8
    grey = [matplotlib.colors.to_rgb(colour) @ np.array([0.299, 0.587, 0.114]) for colour in COLOURS[:3]]
    assert min(abs(a - b) for a, b in ((grey[0], grey[1]), (grey[1], grey[2]), (grey[0], grey[2]))) > 0.1


def test_a_missing_library_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **further: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *rest, **further)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"matplotlib is not installed; pip install 'mt-dnn\[studies\]'"):
        DRAWN["tally"](RECORDS["tally"], tmp_path, "t")


SCORES = [
    (Score("rte", "dev", "accuracy"), 0.6),
    (Score("mrpc", "dev", "accuracy"), 0.8),
    (Score("mrpc", "dev", "f1"), 0.9),
    (Score("mrpc", "carved", "f1"), 0.1),
    (Score("mrpc", "dev", "confusion_matrix"), [[1]]),
    (Score("mrpc", "dev", "loss"), 5.0),
    (Score("hans", "test", "accuracy"), 0.5),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (0.6 + 0.85) / 2),
        ("mrpc", 0.85),
        ("mrpc.f1", 0.9),
        ("mrpc/carved", 0.1),
        ("mrpc/carved.f1", 0.1),
        ("mrpc.loss", 5.0),
        ("hans", None),
        ("hans/test", 0.5),
        ("sst2", None),
    ],
)
def test_a_score_is_the_mean_of_what_its_name_leaves_open(text: str | None, expected: float | None) -> None:
    found = mean_score(SCORES, text, ["rte", "mrpc"])
    assert found == (None if expected is None else pytest.approx(expected))


def test_carved_rows_stand_in_for_dev_splits(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    events: list[dict[str, Any]] = [{"event": "train", "step": 1, "loss": 0.5}]
    events += [{"event": "evaluation", "step": s, "scores": {"t": {"carved": {"f1": s / 10}}}} for s in (2, 4)]
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert learning_curve(log, ["t"], None) == {2: 0.2, 4: 0.4}
    assert learning_curve(log, ["t"], "t/dev") == {}


AXES = {
    "method": {"plain": {"adversary.mode": "none"}, "rapt": {"adversary.mode": "rapt", "adversary.max_layer": 2}},
    "layer": {"one": {}, "two": {"train.batch_size": 4}},
}


def study_file(workspace: Path, **changes: Any) -> Path:
    content = {
        "title": "layers",
        "base": str(workspace / "run.yml"),
        "settings": {"tasks": ["negated"], "train.epochs": 1},
        "axes": AXES,
        "seeds": 2,
        **changes,
    }
    (workspace / "study.yml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return workspace / "study.yml"


def records_of(grid: Grid) -> dict[str, Any]:
    """A record for each run, with a score that tells its cell and seed."""
    records = {}
    for number, cell in enumerate(grid.cells):
        for seed in grid.study.seed_list:
            planned = grid.run(cell, seed)
            results = [{"task": "negated", "split": "dev", "scores": {"mcc": 0.5 + number / 10 + seed / 100}}]
            timed = {"seconds": 10.0 + number, "cpu_seconds": 5.0, "tasks": ["negated"]}
            records[planned.settings_id] = {"run": f"run{number}-{seed}", "results": results, **timed}
    return records


def test_studies_draw_their_records(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {
        "layers": {"kind": "axis", "axis": "layer", "score": "negated/dev.mcc"},
        "gain": {"kind": "time", "reference": "plain", "where": {"layer": "one"}},
        "spread": {"kind": "seed_spread", "panels": "layer"},
        "curves": {"kind": "learning_curves"},
        "by_hand": {"kind": "analysis", "file": str(workspace / "by_hand.json")},
        "later": {"kind": "analysis", "file": str(workspace / "later.json")},
    }
    (workspace / "by_hand.json").write_text(json.dumps(RECORDS["tally"]))
    grid = Grid(load_study(study_file(workspace, figures=figures)))
    records = records_of(grid)
    output = workspace / "figures"
    paths = draw_figures(grid, records, None, output)
    names = [f"{name}.{kind}" for name in ("layers", "gain", "spread", "by_hand") for kind in ("json", "png", "svg")]
    assert [path.name for path in paths] == names
    said = capsys.readouterr().out
    assert "figures.curves: is not drawn, because no run of it is finished" in said
    assert "figures.later: is not drawn, because its numbers are not there yet" in said
    drawn = json.loads((output / "layers.json").read_text())["series"]
    assert drawn["plain"]["one"] == pytest.approx([0.51, 0.52]) and drawn["rapt"]["two"] == pytest.approx([0.81, 0.82])
    gain = json.loads((output / "gain.json").read_text())["points"]
    assert statistics.mean(gain["rapt"]["seconds"]) == 12.0 and gain.keys() == {"plain", "rapt"}
    failed = next(iter(records))
    records[failed] = {"run": "x", "error": "diverged"}
    draw_figures(grid, records, None, output)
    assert len(json.loads((output / "layers.json").read_text())["series"]["plain"]["one"]) == 1


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"kind": "axs"}, r"figures\.f: kind: no kind 'axs', did you mean 'axis'\?"),
        ({"kind": "axis"}, r"figures\.f: axis: Field required"),
        ({"kind": "axis", "axis": "layr"}, r"figures\.f: axis: no axis 'layr', did you mean 'layer'\?"),
        ({"kind": "time", "score": "a b"}, r"figures\.f: score: 'a b' is no score"),
        ({"kind": "time", "tme": 1}, r"figures\.f: tme: Extra inputs are not permitted"),
        ({"kind": "seed_spread", "where": {"layer": "tow"}}, r"where: layer: no label 'tow', did you mean 'two'\?"),
        ({"kind": "tally", "runs": {"a": {"metod": "x"}}}, r"figures\.f: a: no axis 'metod', did you mean 'method'\?"),
    ],
)
def test_wrong_figures_are_located(workspace: Path, figure: dict[str, Any], message: str) -> None:
    """As soon as the study is read, so that no run is made, and none waited for, before it is said."""
    with pytest.raises(UserError, match=message):
        load_grid(study_file(workspace, figures={"f": figure}))


def test_a_study_is_analysed_and_drawn(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From runs that a sweep has made: curves from their logs, and the analyses that the study asks for."""
    runs = {"Plain": {"method": "plain"}, "RAPT": {"method": "rapt", "layer": "two"}}
    figures = {
        "curves": {"kind": "learning_curves"},
        "matrix": {"kind": "confusion", "runs": runs, "options": {"task": "negated"}},
        "ece": {"kind": "calibration", "runs": runs, "options": {"task": "negated"}},
    }
    path = study_file(workspace, leave_out=[{"method": "plain", "layer": "two"}], figures=figures)
    output, folder = workspace / "figures", workspace / "runs"

    def mt_dnn(*arguments: Any) -> str:
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments), "--runs", str(folder)])
        assert exit_.value.code == 0
        captured = capsys.readouterr()
        return captured.out + captured.err

    said = mt_dnn("analyze", "study", path, "--output", output)
    assert f"figures.matrix: runs are missing; mt-dnn sweep {path} makes them" in said
    assert Sweep(Grid(load_study(path)), folder)(lambda text: None) == 0
    said = mt_dnn("analyze", "study", path, "--output", output)
    for name in figures:
        check([output / f"{name}.{kind}" for kind in ("json", "png", "svg")], output, name)
    matrix = json.loads((output / "matrix.json").read_text())
    assert [run["name"] for run in matrix["runs"]] == ["Plain", "RAPT"] and "Plain: no" in said
    assert [run["name"] for run in json.loads((output / "ece.json").read_text())["runs"]] == ["Plain"] * 2 + [
        "RAPT"
    ] * 2
    curves = json.loads((output / "curves.json").read_text())["series"]
    assert {line: len(found) for line, found in curves.items()} == {"plain": 2, "rapt": 4}
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(path), "--runs", str(folder), "--html", str(output)])
    assert exit_.value.code == 0
    page = (output / "index.html").read_text()
    assert all(f"<figcaption>{name}</figcaption>" in page for name in figures)
    (output / "matrix.json").write_text(json.dumps({**matrix, "task": "kept"}))
    mt_dnn("analyze", "study", path, "--output", output)
    assert json.loads((output / "matrix.json").read_text())["task"] == "kept"  # what is there is not made again
