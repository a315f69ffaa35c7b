"""What is known of attempts: time of processes that were killed, and files that are damaged."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.runs.folder import write_json
from mt_dnn.studies.attempts import SPENT, begin, end, note_death, process_name, read_spent, times
from mt_dnn.studies.make import make_run
from mt_dnn.studies.records import read_record
from tests.study_files import grid_of


def killed(folder: Path, *, logged_s: float | None) -> None:
    """Leaves what a process leaves that was killed so many seconds after its begin, by its log."""
    begun = time.time() - 1000
    write_json(folder / SPENT, {"seconds": 5.0, "cpu_seconds": 3.0, "process": process_name(4), "since": begun})
    if logged_s is not None:
        (folder / "metrics.jsonl").write_text("")
        os.utime(folder / "metrics.jsonl", (begun + logged_s, begun + logged_s))


@pytest.mark.parametrize(("logged_s", "seconds"), [(120, 125.0), (-50, 5.0), (None, 5.0)])
def test_the_time_of_a_killed_process_counts_until_its_last_line(
    tmp_path: Path, logged_s: float | None, seconds: float
) -> None:
    """A log that was written before the process began, or no log, says nothing of it."""
    killed(tmp_path, logged_s=logged_s)
    begin(tmp_path)
    spent = read_spent(tmp_path)
    assert times(spent) == {"seconds": seconds, "cpu_seconds": 3.0, "cut_off": 1}
    assert spent["process"] == process_name(os.getpid()) and spent["since"] == pytest.approx(time.time(), abs=60)
    end(tmp_path)
    begin(tmp_path)
    assert times(read_spent(tmp_path))["cut_off"] == 1, "a process that has noted its end is not cut off"


def test_the_record_says_how_many_processes_were_killed(workspace: Path) -> None:
    grid = grid_of(workspace)
    run = grid.run(grid.cells[0], 1).located(workspace / "runs")
    run.config.output.mkdir(parents=True)
    killed(run.config.output, logged_s=None)
    record = make_run(run, "nothing", print, label="a cell")
    assert isinstance(record, dict) and record["cut_off"] == 1 and record["seconds"] > 5.0
    other = grid.run(grid.cells[0], 2).located(workspace / "runs")
    record = make_run(other, "nothing", print, label="a cell")
    assert isinstance(record, dict) and "cut_off" not in record


def test_a_death_that_is_noted_adds_its_time(workspace: Path) -> None:
    grid = grid_of(workspace)
    run = grid.run(grid.cells[0], 1).located(workspace / "runs")
    run.config.output.mkdir(parents=True)
    killed(run.config.output, logged_s=60)
    assert note_death(run, process_name(4), "killed", print)
    assert times(read_spent(run.config.output)) == {"seconds": 65.0, "cpu_seconds": 3.0, "cut_off": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], r"\[\]: .*"),
        ({"seconds": "3"}, "seconds: '3': .*"),
        ({"cpu_seconds": -1}, "cpu_seconds: -1: .*"),
        ({"cut_off": 1.5}, "cut_off: 1.5: .*"),
        ({"errors": "none"}, "errors: 'none': .*"),
        ({"errors": [1]}, "errors.0: 1: .*"),
        ({"process": 4}, "process: 4: .*"),
        ({"since": None}, "since: None: .*"),
    ],
)
def test_values_of_the_wrong_type_are_named(content: object, problem: str, tmp_path: Path) -> None:
    (tmp_path / SPENT).write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{SPENT}: is damaged: {problem}; remove it, then the time spent"):
        read_spent(tmp_path)


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    for text in ("{", 100_000 * "["):
        (tmp_path / SPENT).write_text(text)
        with pytest.raises(
            UserError, match=rf"{SPENT}: is damaged \(.*\); remove it, then the time spent so far is lo"
        ):
            read_spent(tmp_path)
    good = {"run": "a", "id": "1", "settings_id": "2", "settings": {}, "tasks": [], "results": []}
    for content, problem in (
        (b"{", r"not JSON \(.*\)"),
        (b"[]", "a JSON object is expected, not list"),
        (b"\xff", r"not UTF-8 \(.*\)"),
        (
            json.dumps({**good, "results": 1, "error": "x"}).replace('"id"', '"ID"').encode(),
            r"is no record of a run \(it has no 'id'\)",
        ),
        (json.dumps({name: good[name] for name in good if name != "results"}).encode(), r".*no 'results'\)"),
    ):
        (tmp_path / "record.json").write_bytes(content)
        with pytest.raises(UserError, match=rf"record.json: {problem}; remove this file, and mt-dnn sweep makes"):
            read_record(tmp_path)
