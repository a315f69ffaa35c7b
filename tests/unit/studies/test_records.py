"""Records that are given to commands: those of other runs are refused, and a dry run writes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.cli.main import main
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.records import RECORD, Record, read_record, read_records, save_records, write_record
from mt_dnn.studies.sweep import Sweep
from tests.studies import made_up_grid, record_of
from tests.study_files import grid_of


def made_up_record(run: PlannedRun) -> Record:
    """The record of a run, with the name and hashes that it has on the rows of the workspace."""
    return {**record_of(run, lambda *_: 0.5), "run": run.name, "id": run.identity.run_id}


def planned(grid: Grid) -> list[PlannedRun]:
    return [grid.run(cell, 1) for cell in grid.cells]


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_record_of_another_run_in_a_run_folder_is_refused(workspace: Path) -> None:
    """Else the sweep looks for ever at a run that stays unknown."""
    grid = grid_of(workspace)
    ours, theirs = planned(grid)
    folder = workspace / "runs" / ours.name
    folder.mkdir(parents=True)
    write_record(folder, made_up_record(theirs))
    with pytest.raises(UserError) as raised:
        Sweep(grid, workspace / "runs").records()
    assert str(raised.value) == (
        f"{folder / RECORD}: settings_id: '{theirs.settings_id}' is that of another run, not of {ours.name}; "
        "remove this record, and mt-dnn sweep makes the run again"
    )
    write_record(folder, {**made_up_record(ours), "id": theirs.identity.run_id})
    with pytest.raises(UserError, match=r"record\.json: id: .* is that of another run"):
        Sweep(grid, workspace / "runs").records()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_file_with_a_record_of_another_run_is_refused_and_nothing_is_written(
    workspace: Path, dry: list[str], capsys: Any
) -> None:
    run, other = planned(grid_of(workspace))
    file, runs = workspace / "records.jsonl", workspace / "runs"
    lines = [made_up_record(other), {**made_up_record(run), "settings_id": "000000000000"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(workspace / "study.yml"), "--runs", str(runs), "--records", str(file), *dry])
    assert left.value.code == 2 and not runs.exists()
    assert f"{file}:2: settings_id: '000000000000' is that of another run" in capsys.readouterr().err


def test_a_dry_run_counts_the_records_of_a_file_and_writes_nothing(workspace: Path, capsys: Any) -> None:
    file = workspace / "records.jsonl"
    save_records(file, map(made_up_record, planned(grid_of(workspace))))
    before = files(workspace)
    with pytest.raises(SystemExit) as left:
        main(
            ["sweep", str(workspace / "study.yml"), "--runs", str(workspace / "r"), "--records", str(file), "--dry-run"]
        )
    assert left.value.code == 0 and capsys.readouterr().out == "two modes: 2 runs: 2 finished\n"
    assert files(workspace) == before


GOOD: dict[str, Any] = {
    "run": "a-none-seed1-0",
    "id": "0",
    "settings_id": "1",
    "settings": {},
    "tasks": ["a"],
    "results": [{"task": "a", "split": "dev", "scores": {"accuracy": 0.5}, "baseline": {"accuracy": 0.25}}],
}


@pytest.mark.parametrize("name", ["evidence", "evidence_pilot", "freelb_constant"])
def test_records_of_earlier_versions_are_read(name: str) -> None:
    file = Path(__file__).parents[3] / "experiments" / "results" / f"{name}.jsonl"
    assert len(list(read_records(file))) == len(file.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("run", "../../escaped", "run"),
        ("run", "..", "run"),
        ("run", ".", "run"),
        ("run", "a\n", "run"),
        ("run", 1, "run"),
        ("settings_id", ["1"], "settings_id"),
        ("settings", [], "settings"),
        ("settings", {"encoder": 1}, "settings.encoder"),
        ("settings", {"encoder": {"name": []}}, "settings.encoder"),
        ("tasks", "a", "tasks"),
        ("data", ["x"], "data"),
        ("data", {"x": []}, "data.x"),
        ("encoder", {"x": 1}, "encoder.x"),
        ("versions", [], "versions"),
        ("machine", {"threads": "2"}, "machine.threads"),
        ("machine", None, "machine"),
        ("commit", {}, "commit"),
        ("figures", {"regularizer": "x"}, "figures.regularizer"),
        ("results", {}, "results"),
        ("results", [1], "results.0"),
        ("results", [{**GOOD["results"][0], "scores": {"accuracy": "0.5"}}], "results.0"),
        ("results", [{**GOOD["results"][0], "scores": {"acuracy": 0.5}}], "results.0"),
        ("results", [{**GOOD["results"][0], "baseline": {}}], "results.0"),
        ("seconds", "fast", "seconds"),
        ("predictions", {"splits": "all"}, "predictions.text"),
        ("error", None, "error"),
    ],
)
def test_a_wrong_value_names_file_line_and_key(tmp_path: Path, key: str, value: Any, where: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, key: value}) + "\n")
    with pytest.raises(UserError, match=rf"^{re.escape(f'{file}:2: {where}')}: .*; give a file that mt-dnn report"):
        list(read_records(file))
    (tmp_path / RECORD).write_text(json.dumps({**GOOD, key: value}))
    with pytest.raises(UserError, match=rf"^{re.escape(f'{tmp_path / RECORD}: {where}')}: .*; remove this file"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("report", "--html", "page", "--output", "t.md"),
        ("report", "--html", "page", "--format", "csv"),
        ("sweep", "--partition", "x"),
        ("sweep", "--gpus-per-run", "0", "--dry-run"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: tuple[str, ...], capsys: Any) -> None:
    command, *rest = options
    with pytest.raises(SystemExit) as left:
        main([command, "study.yml", *rest])
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and ("does not go with --html" in line or "has no effect without --cluster" in line)


@pytest.mark.parametrize("option", ["--output", "--save-records"])
@pytest.mark.parametrize("name", ["study.yml", "run.yml", "records.jsonl", "paper.yml"])
def test_a_report_does_not_replace_what_it_reads(tmp_path: Path, option: str, name: str, capsys: Any) -> None:
    (tmp_path / "paper.yml").write_text("t: {columns: {rte: [accuracy]}, rows: {plain: {rte: [63.5]}}}")
    made_up_grid(tmp_path, published={"file": str(tmp_path / "paper.yml"), "table": "t"})
    records, file = tmp_path / "records.jsonl", tmp_path / name
    records.write_text(json.dumps(GOOD) + "\n")
    before = file.read_bytes()
    with pytest.raises(SystemExit) as left:
        main(["report", str(tmp_path / "study.yml"), "--records", str(records), option, str(file)])
    message = f"mt-dnn: {file}: is read by this command, and would be replaced; choose another name with {option}\n"
    assert (left.value.code, capsys.readouterr().err, file.read_bytes()) == (2, message, before)


def test_a_report_does_not_write_two_results_into_one_file(tmp_path: Path, capsys: Any) -> None:
    made_up_grid(tmp_path)
    (tmp_path / "records.jsonl").write_text(json.dumps(GOOD) + "\n")
    output = tmp_path / "new"
    given = ["report", str(tmp_path / "study.yml"), "--records", str(tmp_path / "records.jsonl")]
    with pytest.raises(SystemExit) as left:
        main([*given, "--output", str(output), "--save-records", str(tmp_path / "sub" / ".." / "new")])
    assert left.value.code == 2 and "--output and --save-records name the same file" in capsys.readouterr().err
    assert not output.exists()
