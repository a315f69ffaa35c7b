"""Tables of made-up records: each number is recomputed here from the records alone, with numpy."""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

from data_utils.errors import UserError
from mt_dnn.runs.config_file import load_config
from mt_dnn.studies import tables
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.formats import as_csv, latex_text
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.identity import Identity
from mt_dnn.studies.layout import layout, unshown
from mt_dnn.studies.records import Record, read_records
from mt_dnn.studies.remarks import remarks
from mt_dnn.studies.sheets import score_text, sheets, signed
from mt_dnn.studies.sweep import Sweep
from mt_dnn.studies.tables import Table, TableCell
from tests.studies import METHODS, TASK_DEFS, all_records, failure_of, made_up_grid

SELECT = {"over": ["optimizer.lr"]}
RTE = TASK_DEFS["rte"]
GAINS = {"plain": 0.0, "freelb": 0.02, "vat": 0.0}


def scores(run: PlannedRun, task: str, split: str, metric: str) -> float:
    """A score with a part that all methods share, so that differences are paired by seed."""
    shared = np.random.default_rng([run.seed, len(task), len(metric)]).normal(0, 0.01)
    apart = np.random.default_rng([run.seed, len(task), len(run.given.adversary.mode), len(split)]).normal(0, 0.003)
    return float(0.8 + shared + apart + GAINS[run.cell.labels["method"]])


def cell(table: Table, row: str, column: str) -> TableCell:
    rows, columns = [entry.name for entry in table.rows], [entry.name for entry in table.columns]
    return table.cells[rows.index(row), columns.index(column)]


def raw(records: dict[str, Record], mode: str, task: str, metric: str, split: str = "dev") -> np.ndarray:
    """The scores of a mode in percent, by seed, straight from the records."""
    found = {
        record["seed"]: 100 * result["scores"][metric]
        for record in records.values()
        if record["mode"] == mode and task in record["tasks"]
        for result in record["results"]
        if (result["task"], result["split"]) == (task, split)
    }
    return np.array([found[seed] for seed in sorted(found)])


def test_each_number_is_that_of_the_records(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    records = all_records(grid, scores)
    table = make_table(grid, records)
    assert [column.name for column in table.columns] == ["rte accuracy", "mrpc accuracy", "mrpc f1", "average"]
    p_values, found = {}, {}
    modes = {"plain": "none", "freelb": "freelb", "vat": "vat"}
    columns = {"rte accuracy": ("rte", "accuracy"), "mrpc accuracy": ("mrpc", "accuracy"), "mrpc f1": ("mrpc", "f1")}
    by_cell = {
        (row, column): raw(records, mode, *key) for row, mode in modes.items() for column, key in columns.items()
    }
    for row in modes:
        of_tasks = [by_cell[row, "rte accuracy"], (by_cell[row, "mrpc accuracy"] + by_cell[row, "mrpc f1"]) / 2]
        by_cell[row, "average"] = np.mean(of_tasks, axis=0)
    for (row, column), values in by_cell.items():
        here = cell(table, row, column)
        assert len(values) == 3 and here.summary is not None
        expected = (values.mean(), values.std(ddof=1), np.median(values), values.max())
        assert (here.summary.mean, here.summary.sd, here.summary.median, here.summary.best) == pytest.approx(expected)
        if row != "plain":
            test = stats.ttest_rel(values, by_cell["plain", column])
            assert here.seeds is not None
            assert (here.seeds.p, here.seeds.low) == pytest.approx((test.pvalue, test.confidence_interval().low))
            p_values[row, column], found[row, column] = test.pvalue, here.holm_seeds
    ordered = sorted(p_values, key=lambda key: p_values[key])
    corrected = [min(1, (len(ordered) - rank) * p_values[key]) for rank, key in enumerate(ordered)]
    assert [found[key] for key in ordered] == pytest.approx(np.maximum.accumulate(corrected).tolist())
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert len(lines) == len(by_cell)
    for line in lines:
        assert float(line["mean"]) == by_cell[line["row"], line["column"]].mean()


def test_a_spread_below_one_example_gives_no_interval(tmp_path: Path) -> None:
    def steady(run: PlannedRun, task: str, split: str, metric: str) -> float:
        further = {"plain": 0.0, "freelb": 0.01 * (run.seed - 2), "vat": 0.02 + 0.002 * run.seed}
        return 0.8 + 0.05 * run.seed + further[run.cell.labels["method"]]  # those of vat vary by 0.4 points

    grid = made_up_grid(tmp_path)
    for rows, known in ((1000, True), (200, False)):  # one example is 0.1 or 0.5 points
        records = all_records(grid, steady)
        for record in records.values():
            record["results"] = [{**entry, "rows": rows} for entry in record["results"]]
        table = make_table(grid, records)
        test = cell(table, "vat", "rte accuracy").seeds
        assert test is not None and (test.p is not None, test.low is not None) == (known, known)
        assert any(note.startswith("No interval: ") for note in remarks(table, "")) is not known


def test_the_average_of_all_numbers_weighs_metrics_alike(tmp_path: Path) -> None:
    show = {"rows": "method", "columns": "task", "average": "all_numbers", "reference": "plain"}
    grid = made_up_grid(tmp_path, show=show)
    records = all_records(grid, scores)
    found = cell(make_table(grid, records), "vat", "average").summary
    numbers = [raw(records, "vat", "rte", "accuracy"), *(raw(records, "vat", "mrpc", m) for m in ("accuracy", "f1"))]
    assert found is not None and found.mean == pytest.approx(np.mean(numbers))


def test_missing_runs_are_said_with_their_command(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    table = make_table(grid, all_records(grid, scores, without=["task=mrpc, method=vat", "method=freelb, seed 3"]))
    texts = sheets(table)[0].rows
    assert texts[2].cells[1:] == ["missing", "missing", "—"]
    assert texts[1].cells[0].endswith("(2)") and "±" in texts[1].cells[0]
    notes = remarks(table, "mt-dnn sweep s.yml")
    (missing,) = [note for note in notes if note.startswith("Missing")]
    assert "vat: mrpc accuracy, mrpc f1" in missing and "freelb: all;" in missing
    assert missing.endswith("They are made by: mt-dnn sweep s.yml")


def test_a_run_that_failed_is_named_and_in_no_mean(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    records = all_records(grid, scores)
    run = next(grid.run(c, 2) for c in grid.cells if c.labels == {"task": "rte", "method": "vat"})
    failed = failure_of(run)
    records[run.settings_id] = failed
    table = make_table(grid, records)
    here = cell(table, "vat", "rte accuracy")
    assert sorted(here.values) == [1, 3] and not here.is_missing
    assert sheets(table)[0].rows[2].cells[0].endswith("(2, 1 failed)")
    assert f"Failed, and in no mean: {failed['run']} (the loss is not finite)." in remarks(table, "")
    assert cell(table, "vat", "average").summary.n == 2  # type: ignore[union-attr]


def test_where_plain_training_is_no_better_than_a_constant_nothing_is_tested(tmp_path: Path) -> None:
    def hopeless(run: PlannedRun, task: str, split: str, metric: str) -> float:
        return 0.5 + 0.01 * (run.seed - 2) + 0.015 if task == "rte" else scores(run, task, split, metric)

    grid = made_up_grid(tmp_path)
    table = make_table(grid, all_records(grid, hopeless))  # 51.5 ± 1.0 against 50
    assert cell(table, "vat", "rte accuracy").shows_effect is False
    assert cell(table, "vat", "rte accuracy").seeds is None
    assert cell(table, "vat", "mrpc f1").shows_effect is True
    assert sheets(table)[1].rows[0].cells[0] == "cannot show an effect"
    (note,) = [note for note in remarks(table, "") if "cannot show an effect" in note]
    assert note.startswith("rte accuracy: ") and "mrpc" not in note


@pytest.mark.parametrize("turned", [False, True])
def test_methods_that_learn_no_more_than_a_constant_are_named(turned: bool, tmp_path: Path) -> None:
    def collapsed(run: PlannedRun, task: str, split: str, metric: str) -> float:
        hopeless = run.cell.labels["method"] == "vat" and metric == "f1"
        return 0.5 if hopeless else scores(run, task, split, metric)

    rows, columns = ("task", "method") if turned else ("method", "task")
    grid = made_up_grid(tmp_path, show={"rows": rows, "columns": columns, "reference": "plain"})
    notes = remarks(make_table(grid, all_records(grid, collapsed)), "")
    assert [note for note in notes if "constant" in note] == [
        "mrpc f1: vat learnt no more than the best constant answer."
    ]


def test_chosen_settings_count_alone_and_are_said(tmp_path: Path) -> None:
    def by_rate(run: PlannedRun, task: str, split: str, metric: str) -> float:
        best = {"plain": 1e-5, "freelb": 5e-5, "vat": 5e-5}[run.cell.labels["method"]]
        return 0.9 if run.given.optimizer.lr == best else 0.7

    axes = {"task": ["rte"], "method": METHODS, "optimizer.lr": [1e-5, 5e-5]}
    grid = made_up_grid(tmp_path, axes=axes, select={"over": ["optimizer.lr"], "split": "dev"})
    records = all_records(grid, by_rate)
    assert len(records) == 6 + 3 * 2  # both rates with the first seed, the better one with two more
    table = make_table(grid, records)
    assert [c.summary.mean for c in table.cells.values() if c.summary] == pytest.approx([90] * 6)
    (note,) = [note for note in remarks(table, "") if "was chosen" in note]
    assert "on dev (seed 1): rte, plain: 1e-05; rte, freelb: 5e-05" in note
    of_vat = next(c for c in grid.cells if c.labels["method"] == "vat" and c.labels["optimizer.lr"] == "1e-05")
    lost = grid.deciding_run(of_vat, 1).settings_id
    first = {name: record for name, record in records.items() if name != lost}
    undecided = make_table(grid, first)
    assert score_text(undecided, (2, 0)) == "missing" and "rte, freelb: 5e-05; 1 not yet." in "".join(
        remarks(undecided, "")
    )
    assert "Encoder: an-encoder." in remarks(make_table(grid, {}), "")


def test_rows_of_several_axes_and_a_reference_among_columns(tmp_path: Path) -> None:
    axes = {"task": ["rte", "mrpc"], "method": METHODS, "train.epochs": [2, 3]}
    show = {"rows": ["task", "train.epochs"], "columns": "method", "reference": "plain", "metrics": {"mrpc": ["f1"]}}
    grid = made_up_grid(tmp_path, axes=axes, show=show)
    records = all_records(grid, scores)
    table = make_table(grid, records)
    assert [row.name for row in table.rows] == ["rte 2 accuracy", "rte 3 accuracy", "mrpc 2 f1", "mrpc 3 f1"]
    assert [column.name for column in table.columns] == ["plain", "freelb", "vat"]
    found = cell(table, "mrpc 3 f1", "freelb")
    assert found.seeds is not None and found.seeds.difference == pytest.approx(2, abs=0.5)
    assert cell(table, "mrpc 3 f1", "plain").seeds is None


def test_columns_that_are_scores_of_other_tasks(tmp_path: Path) -> None:
    axes = {"task": ["mnli"], "method": METHODS}
    columns = ["mnli/dev_matched.accuracy", "hans/test.accuracy", "mnli/test_matched"]
    grid = made_up_grid(tmp_path, axes=axes, show={"rows": "method", "columns": columns})
    records = all_records(grid, scores)
    table = make_table(grid, records)
    names = ["mnli dev_matched accuracy", "hans accuracy", "mnli test_matched accuracy"]
    assert [column.name for column in table.columns] == names
    expected = [
        100 * result["scores"]["accuracy"]
        for record in records.values()
        for result in record["results"]
        if record["mode"] == "vat" and result["task"] == "hans"
    ]
    assert sorted(cell(table, "vat", "hans accuracy").values.values()) == pytest.approx(sorted(expected))


def test_single_tasks_beside_all_together(tmp_path: Path) -> None:
    """A score comes from the run that trains its task; a row may have one run for all columns, or one for each."""
    axes = {"task": ["rte", "mrpc", ["rte", "mrpc"]], "method": {"single": {"train.epochs": 2}, "together": {}}}
    leave_out = [{"task": "rte+mrpc", "method": "single"}, {"task": ["rte", "mrpc"], "method": "together"}]
    show = {"rows": "method", "columns": ["rte.accuracy", "mrpc.f1"], "reference": "single"}
    grid = made_up_grid(tmp_path, axes=axes, leave_out=leave_out, show=show)
    table = make_table(grid, all_records(grid, lambda run, task, *_: 0.8 + 0.01 * len(run.given.tasks or ())))
    assert {name: cell(table, name, "rte accuracy").summary.mean for name in ("single", "together")} == {  # type: ignore[union-attr]
        "single": pytest.approx(81),
        "together": pytest.approx(82),
    }


def test_a_cell_that_two_runs_belong_to_is_refused(tmp_path: Path) -> None:
    axes = {"task": ["rte"], "method": METHODS, "train.epochs": [2, 3]}
    grid = made_up_grid(tmp_path, axes=axes)
    with pytest.raises(UserError, match=r"study.yml: show: one cell .*method=plain, train.epochs=2' .*rows"):
        make_table(grid, {})


@pytest.mark.parametrize(
    ("show", "message"),
    [
        ({"reference": "plane"}, "show.reference: no row or column 'plane', did you mean 'plain'"),
        ({"columns": ["rta.accuracy"]}, "show.columns: no run scores the task 'rta', did you mean 'rte'"),
        ({"columns": ["rte.mcc"]}, "show.columns: rte has no 'mcc'"),
        ({"rows": ["method", "task"], "average": "task_means"}, "show.average: needs scores in columns"),
        ({"metrics": {"mrpc": ["acuracy"]}}, "show.metrics: mrpc has no 'acuracy', did you mean 'accuracy'"),
        ({"metrics": {"mprc": ["f1"]}}, "show.metrics: no run scores the task 'mprc', did you mean 'mrpc'"),
        (
            {"split": "devv"},
            "show.split: no task that is trained has a split 'devv', did you mean 'dev'.; splits: dev, ",
        ),
        ({"split": "carved"}, "show.split: no task that is trained has a split 'carved'"),
        ({"metrics": {"rte": [], "mrpc": ["confusion_matrix"]}}, "show.metrics: no metric that is shown is a single"),
        ({"rows": "method", "columns": "seed"}, "no axis 'seed'"),
    ],
)
def test_what_show_cannot_mean_is_one_line(show: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        make_table(made_up_grid(tmp_path, show=show), {})


def test_runs_are_those_that_a_run_file_gives(tmp_path: Path) -> None:
    """Seeds share what is loaded; the run of a seed is the same as if it were loaded by itself."""
    grid = made_up_grid(tmp_path)
    for seed in (3, 1, 2):
        for here in grid.cells:
            options = [f"{key}={json.dumps(value)}" for key, value in here.settings.items()]
            options += ['evaluation.predictions={"splits": "labelled"}', f"seed={seed}"]
            alone = load_config(grid.study.base, options)
            run = grid.run(here, seed)
            assert run.settings_id == Identity(alone).settings_id and run.given.seed == seed


def test_rows_held_out_have_columns_of_their_own(tmp_path: Path) -> None:
    axes = {"task": ["rte"], "method": METHODS}
    grid = made_up_grid(tmp_path, axes=axes, show={"rows": "method", "columns": ["rte/dev", "rte/held_out"]})
    records = all_records(grid, scores)
    for record in records.values():
        result = record["results"][0]
        record["results"] += [{**result, "split": "held_out", "scores": {"accuracy": 0.75}}]
    table = make_table(grid, records)
    assert [column.name for column in table.columns] == ["rte dev", "rte held_out"]
    assert cell(table, "vat", "rte held_out").summary.mean == 75  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("splits", "keys", "shown"),
    [
        (["train", "dev", "test"], {"settings": {"data.carve": 0.1}}, "dev"),
        (["train", "test"], {"settings": {"data.carve": 0.1}}, "carved"),
        (["train", "test"], {}, "test"),
        (["train"], {"select": SELECT}, "carved"),
        (["train", "test"], {"select": SELECT}, "test"),
    ],
)
def test_the_split_that_is_shown_by_default(
    splits: list[str], keys: dict[str, Any], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASK_DEFS, "rte", {**RTE, "splits": splits})
    axes = {"task": ["rte"], "method": METHODS, "optimizer.lr": [0.1, 0.2] if "select" in keys else [0.1]}
    for columns in ("task", ["rte"]):
        form = layout(made_up_grid(tmp_path, axes=axes, show={"rows": "method", "columns": columns}, **keys))
        assert [column.score.split for column in form.columns if column.score] == [shown]
        assert ("carved" in form.columns[0].name) == (shown == "carved")


TRAIN_ONLY = "because it has training rows only. Write settings: {data.carve: 0.1}, or give it dev rows."


@pytest.mark.parametrize(
    ("show", "metrics", "said"),
    [
        ({"rows": "method", "columns": "task"}, ["accuracy"], f"rte cannot be shown, {TRAIN_ONLY}"),
        ({"rows": "task", "columns": "method"}, ["accuracy"], f"rte cannot be shown, {TRAIN_ONLY}"),
        ({"rows": "method", "columns": ["rte", "mrpc"]}, ["accuracy"], f"rte cannot be shown, {TRAIN_ONLY}"),
        (
            {"rows": "method", "columns": "task", "split": "dev"},
            ["accuracy"],
            "rte cannot be shown, because it has no split dev (show.split).",
        ),
        (
            {"rows": "method", "columns": ["mrpc.f1", "mrpc.confusion_matrix"]},
            ["accuracy"],
            "mrpc.confusion_matrix cannot be shown, because no metric of it (confusion_matrix) is a single number.",
        ),
        (
            {"rows": "method", "columns": "task"},
            ["confusion_matrix"],
            "rte cannot be shown, because no metric of it (confusion_matrix) is a single number.",
        ),
    ],
)
def test_a_task_without_a_score_is_said_below_the_table_and_before_training(
    show: dict[str, Any], metrics: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASK_DEFS, "rte", {**RTE, "splits": ["train"], "metrics": metrics})
    grid = made_up_grid(tmp_path, show=show)
    table = make_table(grid, all_records(grid, scores))
    assert [sentence for sentence in remarks(table, "") if "cannot be shown" in sentence] == [said]
    lines: list[str] = []
    none: dict[str, Any] = {"check": None, "missing": [], "_release": None, "progress": "0 of 0 runs done"}
    with ExitStack() as patches:
        for name, found in none.items():
            patches.enter_context(patch.object(Sweep, name, return_value=found))
        Sweep(grid, tmp_path / "runs")(lines.append)
        Sweep(grid, tmp_path / "runs", alone=False)(lines.append)
        assert lines.pop() == "0 of 0 runs done"
    assert lines == [f"{tmp_path / 'study.yml'}: {said}"]


def test_a_task_that_is_shown_or_that_nobody_wants_is_not_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unshown(made_up_grid(tmp_path)) == []
    monkeypatch.setitem(TASK_DEFS, "rte", {**RTE, "splits": ["train"]})
    shown = {"rows": "method", "columns": "task"}
    assert unshown(made_up_grid(tmp_path, show=shown, settings={"data.carve": 0.1})) == []
    assert unshown(made_up_grid(tmp_path, show={**shown, "metrics": {"rte": []}})) == []
    assert unshown(made_up_grid(tmp_path, show={**shown, "values": "seconds"})) == []


def test_settings_are_not_chosen_on_a_split_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASK_DEFS, "rte", {**RTE, "splits": ["train", "test"]})
    axes = {"task": ["rte"], "optimizer.lr": [0.1, 0.2]}
    grid = made_up_grid(tmp_path, axes=axes, show=None, select={**SELECT, "split": "dev"})
    with pytest.raises(UserError, match=r"select.split: rte has no dev split; write select: {split: carved}"):
        make_table(grid, {})


def test_small_splits_and_splits_without_scores_are_said(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    records = all_records(grid, scores)
    assert not any("too few" in sentence for sentence in remarks(make_table(grid, records), ""))
    for record in records.values():
        for result in record["results"]:
            result["rows"] = 29 if result["task"] == "rte" else 30
    assert "rte dev: 29 rows, too few to compare methods." in remarks(make_table(grid, records), "")
    assert not any("mrpc dev: " in sentence for sentence in remarks(make_table(grid, records), ""))
    without = {name: {**record, "results": []} for name, record in records.items() if "rte" in record["tasks"]}
    table = make_table(grid, {**records, **without})
    (said,) = [sentence for sentence in remarks(table, "") if sentence.startswith("No run has scores")]
    assert said.startswith("No run has scores of rte dev. If its rows were missing, add them")
    column = next(j for j, column in enumerate(table.columns) if "rte" in column.name)
    assert {score_text(table, (i, column)) for i in range(len(table.rows))} == {"missing"}


def test_a_figure_that_no_run_has_is_said(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path, show={"rows": "method", "columns": "task", "further": ["delta_ration"]})
    assert "No run has the figure delta_ration." in remarks(make_table(grid, timed_records(grid)), "")


def timed_records(grid: Grid) -> dict[str, Record]:
    """Records where vat takes 1.5 times as long as plain, on every task and seed."""
    records = all_records(grid, scores)
    for record in records.values():
        seconds = 10.0 * record["seed"] * (2 if "mrpc" in record["tasks"] else 1)
        record["cpu_seconds"] = seconds * {"none": 1, "freelb": 3, "vat": 1.5}[record["mode"]]
        record["figures"] = {"delta_ratio": 0.02 * record["seed"]} if record["mode"] != "none" else {}
    return records


def test_times_and_figures_as_cells_and_as_further_columns(tmp_path: Path) -> None:
    show = {"rows": "method", "columns": "task", "reference": "plain", "further": ["time_ratio", "delta_ratio"]}
    grid = made_up_grid(tmp_path, show=show)
    table = make_table(grid, timed_records(grid))
    ratio, size = cell(table, "vat", "time_ratio").summary, cell(table, "vat", "delta_ratio").summary
    assert ratio is not None and size is not None
    assert (ratio.mean, ratio.sd) == pytest.approx((1.5, 0)) and size.mean == pytest.approx(0.04)
    assert cell(table, "plain", "delta_ratio").summary is None
    assert sheets(table)[0].rows[2].cells[-2:] == ["1.50 ± 0.00", "0.04 ± 0.02"]
    show = {"rows": "method", "columns": "task", "reference": "vat", "values": "time_ratio"}
    grid = made_up_grid(tmp_path, show=show)
    table = make_table(grid, timed_records(grid))
    assert cell(table, "freelb", "mrpc").summary.mean == pytest.approx(2)  # type: ignore[union-attr]
    assert cell(table, "freelb", "mrpc").seeds is None  # times are not tested


def test_methods_at_their_dropout_floor_are_said_to_coincide(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    records = all_records(grid, lambda run, *_: 0.7 + 0.01 * run.seed)
    for record in records.values():
        regularizer = {"none": None, "freelb": 0.0105, "vat": 0.0098}[record["mode"]]
        record["figures"] = {"regularizer": regularizer, "dropout_floor": 0.01} if regularizer else {}
    notes = remarks(make_table(grid, records), "")
    (note,) = [note for note in notes if note.startswith("At the dropout floor")]
    assert "freelb (rte 1.05, mrpc 1.05); vat (rte 0.98, mrpc 0.98)" in note
    assert note.endswith("So freelb and vat coincide at these settings.")
    assert "plain and freelb and vat have the same scores in every run." in notes
    for record in records.values():
        if record["mode"] == "vat" and "rte" in record["tasks"]:
            record["figures"]["regularizer"] = 0.02
    (note,) = [n for n in remarks(make_table(grid, records), "") if n.startswith("At the dropout floor")]
    assert "vat" not in note and "coincide" not in note


def test_records_of_several_commits_rows_and_weights_are_said(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    records = all_records(grid, scores)
    alike = remarks(make_table(grid, records), "")
    assert "Commits: abcdef." in alike and not [note for note in alike if "different" in note or "Several" in note]
    first = next(iter(records.values()))
    first["commit"], first["data"], first["encoder"] = "123456", {"rte_dev": "cccc"}, {"model.safetensors": "dddd"}
    notes = remarks(make_table(grid, records), "")
    assert "Several commits: 123456; abcdef." in notes
    assert "Runs have read different rows: rte_dev (cccc, aaaa)." in notes
    assert "Runs have read different weights: an-encoder/model.safetensors (dddd, bbbb)." in notes


def test_a_run_with_several_columns_is_compared_with_the_sum_of_its_references(tmp_path: Path) -> None:
    axes = {"task": ["rte", "mrpc", ["rte", "mrpc"]], "method": {"single": {"train.epochs": 2}, "together": {}}}
    leave_out = [{"task": "rte+mrpc", "method": "single"}, {"task": ["rte", "mrpc"], "method": "together"}]
    show = {"rows": "method", "columns": ["rte.accuracy", "mrpc.f1"], "reference": "single", "further": ["time_ratio"]}
    grid = made_up_grid(tmp_path, axes=axes, leave_out=leave_out, show=show)
    records = all_records(grid, lambda *_: 0.8)
    for record in records.values():
        record["cpu_seconds"] = {1: 10.0 if "rte" in record["tasks"] else 30.0, 2: 20.0}[len(record["tasks"])]
    table = make_table(grid, records)
    assert cell(table, "together", "time_ratio").summary.mean == pytest.approx(20 / (10 + 30))  # type: ignore[union-attr]
    assert cell(table, "single", "time_ratio").summary.mean == 1  # type: ignore[union-attr]
    lost = {name: record for name, record in records.items() if record["tasks"] != ["mrpc"] or record["seed"] != 2}
    assert sorted(cell(make_table(grid, lost), "together", "time_ratio").values) == [1, 3]


def test_on_a_gpu_time_is_that_of_the_clock(tmp_path: Path) -> None:
    show = {"rows": "method", "columns": "task", "reference": "plain", "values": "time_ratio"}
    grid = made_up_grid(tmp_path, show=show)
    records = timed_records(grid)
    for record in records.values():
        record["machine"]["device"] = "NVIDIA H200"
        record["seconds"] = {"none": 10.0, "freelb": 20.0, "vat": 12.0}[record["mode"]]
    assert cell(make_table(grid, records), "vat", "rte").summary.mean == pytest.approx(1.2)  # type: ignore[union-attr]


def test_the_smallest_gain_stands_below_each_difference(tmp_path: Path) -> None:
    grid = made_up_grid(tmp_path)
    table = make_table(grid, all_records(grid, scores))
    found, rows = cell(table, "vat", "mrpc f1").seeds, sheets(table)[1].rows
    assert found is not None and [row.name for row in rows] == ["freelb", "smallest gain", "vat", "smallest gain"]
    gaps = [cell(table, "vat", "mrpc f1").values[s] - cell(table, "plain", "mrpc f1").values[s] for s in (1, 2, 3)]
    smallest = (stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)) * np.std(gaps, ddof=1) / 3**0.5
    assert found.detectable == pytest.approx(smallest) and rows[3].cells[2] == f"{smallest:.1f}"
    assert any("chance of 80 %" in note for note in remarks(table, ""))


def test_only_the_split_that_decides_is_tested(tmp_path: Path) -> None:
    show = {"rows": "method", "columns": ["rte/held_out", "rte/dev"], "tested": "held_out", "reference": "plain"}
    axes = {"task": ["rte"], "method": METHODS}
    grid = made_up_grid(tmp_path, axes=axes, show=show)
    records = all_records(grid, scores)
    for record in records.values():
        record["results"] += [{**record["results"][0], "split": "held_out"}]
    table = make_table(grid, records)
    tests = [cell(table, name, "rte held_out") for name in ("freelb", "vat")]
    assert cell(table, "vat", "rte dev").summary is not None and cell(table, "vat", "rte dev").seeds is None
    p = sorted(test.seeds.p for test in tests if test.seeds and test.seeds.p is not None)
    assert min(test.holm_seeds or 2 for test in tests) == pytest.approx(2 * p[0])  # a family of two
    assert sheets(table)[1].header == ["rte held_out"] and table.comparisons == 2
    with pytest.raises(UserError, match=r"show.tested: no score of the split 'carved' is shown"):
        make_table(made_up_grid(tmp_path, axes=axes, show={**show, "tested": "carved"}), records)


def test_distances_have_three_digits(tmp_path: Path) -> None:
    grid = made_up_grid(
        tmp_path, axes={"task": ["rte"], "method": METHODS}, show={"rows": "method", "reference": "plain"}
    )
    table = make_table(grid, all_records(grid, lambda run, *_: 0.8))
    values = {1: 0.41, 2: 0.43, 3: 0.45}
    moved = {(i, 0): replace(c, values=values, lower_is_better=True) for (i, _), c in table.cells.items()}
    small = replace(table, cells=moved)
    assert score_text(small, (0, 0)) == "0.430 ± 0.020" and signed(small, (0, 0), -0.0123) == "−0.012"
    large = replace(table, cells={(0, 0): replace(moved[0, 0], values={1: 1234.5, 2: 1240.0})})
    assert score_text(large, (0, 0)) == "1237 ± 4 (2)"


def test_references_are_looked_up_for_rows_and_columns_and_not_for_each_cell(tmp_path: Path) -> None:
    """Else the time of a large table grows with the square of the number of its cells."""
    methods = {f"m{number}": {"adversary.mode": "rdrop", "adversary.weight": 1 + number} for number in range(40)}
    show = {"rows": "method", "columns": "task", "reference": "m0", "further": ["time_ratio"]}
    grid = made_up_grid(tmp_path, axes={"task": ["rte", "mrpc", "stsb"], "method": methods}, show=show)
    records = all_records(grid, lambda run, *_: 0.8 + 0.01 * run.seed)
    with patch.object(tables, "_reference_numbers", wraps=tables._reference_numbers) as looked:
        make_table(grid, records)
    assert 0 < looked.call_count < 40


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"run": "a", "score": 1}\n')
    with pytest.raises(UserError, match=r"records.jsonl:1: is no record of a run \(it has no 'id'\); give a file that"):
        list(read_records(tmp_path / "records.jsonl"))


def test_latex_keeps_accents_and_greek() -> None:
    assert latex_text("Ngữ é Łódź α Λ ς Α") == r"Ngữ é Łódź $\alpha$ $\Lambda$ $\varsigma$ $\mathrm{A}$"
    assert latex_text("e\u0301 ☃") == "é ?"
