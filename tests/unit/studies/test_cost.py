"""What a dry run says of costs, against counts by hand."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import MissingRows, UserError
from data_utils.task_def import load_task_defs
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.studies import cost
from mt_dnn.studies.cost import Rates, configured, probe, shape_of, texts, work
from mt_dnn.studies.dry_run import dry_run_text
from mt_dnn.studies.full_size import FLOPS_PER_S, estimate
from mt_dnn.studies.identity import run_tasks
from mt_dnn.studies.make import make_run
from mt_dnn.studies.records import read_records, restorable, restore, save_records, write_record
from mt_dnn.studies.run_list import run_states
from mt_dnn.studies.sweep import Sweep
from tests.study_files import grid_of

LABELLED = ["evaluation.predictions={splits: labelled}"]


def config_of(workspace: Path, *overrides: str) -> RunConfig:
    return load_config(workspace / "run.yml", ["tasks=[negated]", "train.epochs=4", *LABELLED, *overrides])


def characters(workspace: Path, split: str, rows: slice = slice(None)) -> int:
    """Those of the texts of a file, read in another way."""
    with (workspace / "data" / f"negated_{split}.tsv").open() as file:
        return sum(len(row["premise"]) for row in list(csv.DictReader(file, delimiter="\t"))[rows])


def test_work_is_characters_times_passes(workspace: Path) -> None:
    train, dev = characters(workspace, "train"), characters(workspace, "dev")
    assert work(config_of(workspace)) == pytest.approx(4 * train + 4 * dev / 3)
    assert work(config_of(workspace, "train.max_steps=3")) == pytest.approx((train + dev / 3) / 2)  # 6 updates an epoch
    assert work(config_of(workspace, "evaluation.every_steps=2")) == pytest.approx(4 * train + 12 * dev / 3)
    assert work(config_of(workspace, "adversary.mode=rdrop")) == pytest.approx(8 * train + 4 * dev / 3)
    few = characters(workspace, "train", slice(16))
    assert work(config_of(workspace, "data.max_rows=16")) == pytest.approx(4 * few + 4 * dev / 3)
    behind = characters(workspace, "train", slice(16, 26))
    held_out = work(config_of(workspace, "data.max_rows=16", "data.held_out=10"))
    assert held_out == pytest.approx(4 * few + 4 * dev / 3 + behind / 3)
    sampled = work(config_of(workspace, "data.max_rows=16", "data.held_out=10", "data.sample=true"))
    rows = len((workspace / "data" / "negated_train.tsv").read_text().splitlines()) - 1
    assert sampled == pytest.approx(4 * train * 16 / rows + 4 * dev / 3 + train * 10 / rows / 3, rel=1e-3)
    assert work(config_of(workspace, "data.max_eval_rows=10")) == pytest.approx(4 * train + 4 * dev / 4 / 3, rel=1e-3)
    unlabelled = work(config_of(workspace, "evaluation.predictions=true"))
    assert unlabelled == pytest.approx(4 * train + 4 * dev / 3 + characters(workspace, "test") / 3)
    carved = work(config_of(workspace, "data.carve=0.25"))
    assert carved == pytest.approx(4 * 0.75 * train + 4 * 0.25 * train / 3 + dev / 3)


def test_two_tasks_that_read_one_file_are_read_apart(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("A,B,Key\na text,x,\nb text,y,\n")
    kind = "task_type: classification, data_format: single, labels: [x, y], files: {train: rows.csv}"
    (tmp_path / "tasks.yml").write_text(
        f"one: {{{kind}, columns: {{premise: A, label: B}}}}\ntwo: {{{kind}, columns: {{premise: A, label: Key}}}}\n"
    )
    one, two = load_task_defs(tmp_path / "tasks.yml").values()
    config = config_of(workspace, f"data.dir={tmp_path}")
    assert (texts(config, one, "train").labelled, texts(config, two, "train").labelled) == (True, False)


def test_rows_of_empty_texts_have_a_cost(workspace: Path) -> None:
    for split in ("train", "dev"):
        (workspace / "data" / f"negated_{split}.tsv").write_text("uid\tlabel\tpremise\n" + "1\tplain\t\n" * 20)
    config = config_of(workspace)
    assert work(config) == pytest.approx(4 * 20 + 4 * 20 / 3)
    assert texts(config, run_tasks(config).trained["negated"], "train").characters == 20


def test_rows_that_are_not_here_have_no_work(workspace: Path) -> None:
    (workspace / "data" / "negated_train.tsv").unlink()
    with pytest.raises(MissingRows):
        work(config_of(workspace))


def test_a_rate_is_from_the_finished_runs_that_are_most_like_it(workspace: Path, monkeypatch: Any) -> None:
    runs = workspace / "runs"
    grid = grid_of(workspace)
    for cell in grid.cells:
        assert isinstance(make_run(grid.run(cell, 1).located(runs), "nothing", print, label=str(cell)), dict)
    records = {record["mode"]: record for record in read_records(runs)}
    rates = Rates(configured(read_records(runs), runs))
    plain = grid.run(grid.cells[0], 2).given
    rate = rates(plain)
    assert rate.seconds == records["none"]["cpu_seconds"] / work(plain)
    assert rate.source == "1 finished runs with none on negated"
    other_task = plain.model_copy(update={"tasks": ("same",)})
    assert rates(other_task).source == "1 finished runs with none"
    other_mode = config_of(workspace, "adversary.mode=vat")
    assert rates(other_mode).source == "2 finished runs with its encoder"
    elsewhere = [({**record, "machine": {"processor": "another"}}, plain) for record in records.values()]
    monkeypatch.setattr(cost, "probe", lambda config: 1.0)
    assert Rates(elsewhere)(plain).source.startswith("8 updates of plain training with ")


def test_a_probe_measures_processor_seconds_for_a_character(workspace: Path, monkeypatch: Any) -> None:
    """A clock that goes on by a second with each update says how many seconds the updates that count took."""
    updates = []
    real = cost.train

    def counted(*args: Any, **options: Any) -> Any:
        for event in real(*args, **options):
            updates.append(event)
            yield event

    monkeypatch.setattr(cost, "train", counted)
    monkeypatch.setattr(time, "process_time", lambda: float(len(updates)))
    rate = probe(config_of(workspace, "train.batch_size=6", "adversary.mode=vat"))
    assert len(updates) == 8 and [event.examples for event in updates] == [6] * 8
    assert rate == pytest.approx(5 / 30 / (characters(workspace, "train") / 48))


def test_a_dry_run_names_states_times_and_sums(workspace: Path, monkeypatch: Any) -> None:
    runs = workspace / "runs"
    grid = grid_of(workspace, seeds=2)
    make_run(grid.run(grid.cells[0], 1).located(runs), "nothing", print, label="first")
    monkeypatch.setattr(Rates, "__call__", lambda self, config: cost.Rate(3600 / work(config), "a test"))
    text = dry_run_text([Sweep(grid, runs)])
    assert text.startswith("two modes: 4 runs: 1 finished, 3 missing")
    assert "processor time: 3 h 0 min in all" in text and "by method: rdrop 2 h 0 min, plain 1 h 0 min" in text
    assert "Speed of 3 runs: measured, a test." in text
    assert len([line for line in text.splitlines() if line.startswith("method=")]) == 3


def test_a_run_of_two_studies_costs_once(workspace: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Rates, "__call__", lambda self, config: cost.Rate(3600 / work(config), "a test"))
    runs = workspace / "runs"
    text = dry_run_text([Sweep(grid_of(workspace, seeds=2), runs), Sweep(grid_of(workspace, seeds=3), runs)])
    assert "processor time: 4 h 0 min in all" in text
    assert text.endswith(
        "All 2 studies: 6 runs. A run that several have in common counts once\n\nprocessor time: 6 h 0 min in all\n\n"
        "Speed of 10 runs: measured, a test."
    )


def test_restored_records_count_as_finished(workspace: Path) -> None:
    grid = grid_of(workspace, seeds=1)
    runs, elsewhere, file = workspace / "runs", workspace / "elsewhere", workspace / "records.jsonl"
    make_run(grid.run(grid.cells[0], 1).located(runs), "nothing", print, label="first")
    save_records(file, read_records(runs))
    assert (restore(restorable(file), elsewhere), restore(restorable(file), elsewhere)) == (1, 0)
    assert len(Sweep(grid, elsewhere).missing()) == len(Sweep(grid, runs).missing()) == 1


def test_runs_that_wait_for_a_choice_are_counted(workspace: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Rates, "__call__", lambda self, config: cost.Rate(3600 / work(config), "a test"))
    grid = grid_of(
        workspace, axes={"optimizer.lr": [0.1, 0.2]}, seeds=3, select={"over": ["optimizer.lr"], "seeds": [1]}
    )
    text = dry_run_text([Sweep(grid, workspace / "runs")])
    assert "4 runs: 2 missing, 2 waits for a choice" in text and "processor time: 4 h 0 min in all" in text


def test_missing_rows_are_named_once(workspace: Path) -> None:
    for rows in (workspace / "data").glob("*_train.tsv"):
        rows.unlink()
    text = dry_run_text([Sweep(grid_of(workspace, seeds=2), workspace / "runs")])
    assert text.count("not known: rows are missing") == 4 and "processor time" not in text
    assert re.match(r"Rows of 4 runs are missing: .*_train.tsv: no such file", text.splitlines()[-1])


def test_an_encoder_that_is_not_here_has_an_estimate(workspace: Path) -> None:
    """The blocks of BERT-base have 85 million weights; an update has 6 operations a weight and token, and attention."""
    config = config_of(workspace, "encoder.name=google-bert/bert-base-uncased", "adversary.mode=freelb")
    found = estimate(config)
    assert found is not None
    tokens = characters(workspace, "train") / 4
    attention = 12 * 12 * (tokens / 48) * 768
    passes = 4 * config.adversary.passes  # type: ignore[attr-defined]
    assert found.hours == pytest.approx(passes * tokens * (6 * 84_934_656 + attention) / FLOPS_PER_S / 3600)
    assert found.gigabytes == pytest.approx(16 * (84_934_656 + 30522 * 768) / 1e9, rel=0.02)  # short rows
    grid = grid_of(workspace, "encoder.name=google-bert/bert-base-uncased")
    text = dry_run_text([Sweep(grid, workspace / "runs")])
    assert "GPU time (estimate): " in text and "an estimate, nothing is measured" in text
    assert "processor time" not in text
    text = dry_run_text([Sweep(grid_of(workspace, "encoder.name=some/encoder"), workspace / "runs")])
    assert "not known: encoder or rows" in text


@pytest.mark.parametrize("machine", [{}, {"threads": 1}])
def test_a_record_without_a_processor_is_named_and_has_no_rate(
    machine: dict[str, int], workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    runs, grid = workspace / "runs", grid_of(workspace)
    record = make_run(grid.run(grid.cells[0], 1).located(runs), "nothing", print, label="first")
    assert isinstance(record, dict)
    write_record(runs / record["run"], {**record, "machine": machine})
    monkeypatch.setattr(cost, "probe", lambda config: 1.0)
    capsys.readouterr()
    text = dry_run_text([Sweep(grid, runs)])
    assert "Speed of 1 runs: measured, 8 updates of plain training with" in text
    said = capsys.readouterr()
    assert f"{record['run']}: is left out, because its record has no 'machine.processor'" in said.out + said.err


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", r"config\.json: not JSON"), ("[]", r"config\.json: a JSON object is expected, not list")],
)
def test_a_damaged_configuration_of_an_encoder_is_one_line(content: str, said: str, workspace: Path) -> None:
    (workspace / "damaged").mkdir()
    (workspace / "damaged" / "config.json").write_text(content)
    with pytest.raises(UserError, match=said) as error:
        shape_of(config_of(workspace, f"encoder.name={workspace / 'damaged'}"))
    assert "\n" not in str(error.value)


def test_a_folder_of_another_version_is_named_and_left_out(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, grid = workspace / "runs", grid_of(workspace)
    record = make_run(grid.run(grid.cells[0], 1).located(runs), "nothing", print, label="first")
    assert isinstance(record, dict) and len(list(configured([record], runs))) == 1
    capsys.readouterr()
    (runs / record["run"] / "config.yml").write_text("unheard: of\n")
    assert list(configured([record, {"run": "old"}], runs)) == []
    said = capsys.readouterr()
    lines = (said.out + said.err).splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{record['run']}: is left out (") and "'mode'" in lines[1]
    states = {state.folder.name: state for state in run_states(runs)}
    assert states[record["run"]].state == "finished"
    (runs / record["run"] / "config.yml").write_text("- x\n")
    (state,) = run_states(runs)
    assert state.state == "unreadable" and "is not the configuration of a run" in state.error
