"""A run of a study: finished once, tried twice, its weights kept as asked."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from data_utils.errors import MissingRows, UserError
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.folder import SOFT, locked
from mt_dnn.studies.attempts import SPENT, note_death, process_name
from mt_dnn.studies.identity import Identity
from mt_dnn.studies.make import Busy, kept_record, make_run
from mt_dnn.studies.records import RECORD, by_settings, failure_record, read_record, read_records
from mt_dnn.studies.weights import LOCK
from tests.study_files import grid_of


def config_of(workspace: Path, *overrides: str, name: str = "runs") -> RunConfig:
    grid = grid_of(workspace, *overrides)
    return grid.run(grid.cells[0], 1).config(workspace / name)


def make(config: RunConfig, keep: str = "nothing", said: list[str] | None = None):
    return make_run(Identity(config), keep, ([] if said is None else said).append, label="a cell")


def test_a_finished_run_has_a_record_and_is_not_made_again(workspace: Path) -> None:
    config, said = config_of(workspace), list[str]()
    record = make(config, said=said)
    assert isinstance(record, dict) and said == [f"{config.name}: a cell"]
    assert record == read_record(config.output)
    assert (record["run"], record["id"], record["settings_id"]) == (
        config.name,
        Identity(config).run_id,
        Identity(config).settings_id,
    )
    summary = json.loads((config.output / "summary.json").read_text())
    assert record["results"] == summary["results"] and record["steps"] == summary["steps"] == 6
    assert record["seconds"] > 0 and record["cpu_seconds"] > 0
    assert last_checkpoint(config.output) is None and not (config.output / "best").is_symlink()
    assert not (config.output / SPENT).exists()
    assert make(config, said=said) == record and len(said) == 1


def test_a_run_that_diverges_has_two_attempts_and_then_a_record(workspace: Path) -> None:
    config, said = config_of(workspace, "optimizer.lr=1e30"), list[str]()
    first = make(config, said=said)
    assert isinstance(first, dict) and "is not finite" in first["error"]
    assert read_record(config.output) is None
    second = make(config, said=said)
    assert isinstance(second, dict) and second["attempts"] == 2 and second == read_record(config.output)
    assert "given up" in said[-1] and str(config.output / RECORD) in said[-1]
    assert make(config) == second, "given up for good"
    (config.output / RECORD).unlink()  # as the message says
    assert make(config)["attempts"] == 1


@pytest.mark.parametrize("keep", ["model", "checkpoint"])
def test_a_study_that_wants_weights_makes_a_run_again_whose_weights_are_gone(workspace: Path, keep: str) -> None:
    config, said = config_of(workspace), list[str]()
    first = make(config, said=said)
    assert kept_record(Identity(config), keep) is None
    again = make(config, keep, said)
    assert isinstance(first, dict) and isinstance(again, dict) and len(said) == 2
    assert again["results"] == first["results"]
    checkpoint = last_checkpoint(config.output)
    assert checkpoint is not None and (checkpoint / "heads.safetensors").exists()
    assert (checkpoint / "trainer").exists() == (keep == "checkpoint")
    assert make(config, keep, said) == make(config, said=said) == again and len(said) == 2
    assert last_checkpoint(config.output) is not None, "a study that needs no weights leaves those of others"


def test_the_complete_checkpoint_is_made_again_where_only_the_model_is_left(workspace: Path) -> None:
    config = config_of(workspace)
    first, again = make(config, "model"), make(config, "checkpoint")
    assert isinstance(first, dict) and isinstance(again, dict) and first["results"] == again["results"]
    checkpoint = last_checkpoint(config.output)
    assert checkpoint is not None and (checkpoint / "trainer").exists()


@pytest.mark.parametrize("lock", [LOCK, ".lock"])
def test_a_run_that_another_process_makes_is_left_to_it(workspace: Path, lock: str) -> None:
    config, said = config_of(workspace), list[str]()
    with locked(config.output, lock):
        assert make(config, said=said) is Busy
    assert said == [] and isinstance(make(config), dict)


def test_bad_input_is_named_with_its_cell_and_leaves_no_folder(workspace: Path) -> None:
    config = config_of(workspace)
    (workspace / "data" / "negated_train.tsv").unlink()
    with pytest.raises(MissingRows, match=r"^a cell: .*negated_train.tsv: no such file"):
        make(config)
    assert not config.output.exists()


def test_a_signal_that_came_before_the_first_update_stops_the_run(workspace: Path) -> None:
    config = config_of(workspace)
    assert make_run(Identity(config), "nothing", print, label="a cell", received=[15]) == 15
    assert read_record(config.output) is None


def test_a_death_counts_as_an_attempt_of_the_run_that_the_dead_made(workspace: Path) -> None:
    config = config_of(workspace)
    assert not note_death(Identity(config), process_name(1), "killed", print) and not config.output.exists()
    for attempt in (1, 2):
        with locked(config.output, LOCK):
            spent = json.loads((config.output / SPENT).read_text()) if attempt == 2 else {}
            (config.output / SPENT).write_text(json.dumps({**spent, "process": process_name(4)}))
            assert not note_death(Identity(config), process_name(4), "killed", print), "another process goes on with it"
        assert not note_death(Identity(config), process_name(5), "killed", print)
        assert note_death(Identity(config), process_name(4), "killed", print)
        assert not note_death(Identity(config), process_name(4), "killed", print)
    record = read_record(config.output)
    assert record is not None and (record["error"], record["attempts"]) == ("killed", 2)


def test_the_process_that_makes_a_run_is_known_from_the_start(workspace: Path) -> None:
    config, seen = config_of(workspace), list[str]()

    def look(_: str) -> None:
        seen.append(json.loads((config.output / SPENT).read_text())["process"])

    make_run(Identity(config), "nothing", look, label="a cell")
    assert seen == [process_name(os.getpid())]


def test_a_record_names_the_gpu(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = failure_record(Identity(config_of(workspace)), "no", 2)
    assert "device" not in record["machine"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"{name} of a test")
    assert (
        failure_record(Identity(config_of(workspace, "device=auto")), "no", 2)["machine"]["device"] == "cuda of a test"
    )
    assert "device" not in failure_record(Identity(config_of(workspace, "device=cpu")), "no", 2)["machine"]


def test_a_run_that_cannot_be_built_is_a_failed_attempt(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory\nleft")

    monkeypatch.setattr("mt_dnn.studies.make.Run", broken)
    config = config_of(workspace)
    first, second = make(config), make(config)
    assert first["error"] == "RuntimeError: no memory left" and read_record(config.output) == second
    assert second["attempts"] == 2


def test_weights_that_a_killed_process_has_left_are_removed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    config = config_of(workspace)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("mt_dnn.studies.make.forget_weights", kill)
        make(config)
    record = read_record(config.output)
    assert record is not None and last_checkpoint(config.output) is not None
    assert kept_record(Identity(config), "nothing") is None, "a sweep looks at it again"
    assert make(config) == record == kept_record(Identity(config), "nothing")
    assert last_checkpoint(config.output) is None and not (config.output / SPENT).exists()


def test_a_study_that_wants_more_predictions_makes_a_run_again(workspace: Path) -> None:
    config = config_of(workspace)
    assert isinstance(make(config), dict)
    more = config_of(workspace, "evaluation.predictions={splits: all, text: true}")
    assert more.output == config.output and kept_record(Identity(more), "nothing") is None
    record, file = make(more), config.output / "predictions" / "negated_test.jsonl"
    assert "first" in json.loads(file.read_text().splitlines()[0])
    assert kept_record(Identity(more), "nothing") == kept_record(Identity(config), "nothing") == record


def test_a_run_that_was_cut_off_goes_on_with_rows_and_cache_elsewhere(workspace: Path) -> None:
    config = config_of(workspace, "train.epochs=3")

    def stop(epoch: int, value: float) -> bool:
        return epoch == 1

    assert make_run(Identity(config), "nothing", print, label="a cell", hopeless=stop) == signal.SIGUSR1
    shutil.copytree(workspace / "data", workspace / "elsewhere", ignore=shutil.ignore_patterns("prepared"))
    shutil.copy(workspace / "tasks.yml", workspace / "same_tasks.yml")
    elsewhere = config_of(
        workspace,
        "train.epochs=3",
        f"data.dir={workspace / 'elsewhere'}",
        f"data.cache={workspace / 'cache'}",
        f"task_defs={workspace / 'same_tasks.yml'}",
        "checkpoint.every_steps=7",
    )
    assert elsewhere.output == config.output
    assert make(elsewhere)["steps"] == 18
    assert load_config(config.output / "config.yml").data.dir == workspace / "elsewhere"


def test_a_folder_that_holds_something_stays_when_a_run_cannot_begin(workspace: Path) -> None:
    config = config_of(workspace)
    (workspace / "data" / "negated_train.tsv").unlink()
    config.output.mkdir(parents=True)
    with pytest.raises(MissingRows):
        make(config)
    assert not config.output.exists(), "of an empty folder nothing is lost"
    config.output.mkdir()
    (config.output / "notes.txt").write_text("mine")
    with pytest.raises(MissingRows):
        make(config)
    assert (config.output / "notes.txt").exists()


def test_more_rows_in_a_folder_do_not_contradict_earlier_records() -> None:
    record = {"run": "a", "id": "1", "settings_id": "s", "data": {"x_train": "1"}, "encoder": {"w": "1"}}
    more = {**record, "id": "2", "data": {"x_train": "1", "x_test": "2"}}
    assert by_settings([record, more]) == {"s": more}
    with pytest.raises(UserError, match="a: has the settings of a, but other rows or weights"):
        by_settings([record, {**more, "data": {"x_train": "3"}}])


def test_of_two_runs_with_the_same_settings_the_later_one_counts(tmp_path: Path) -> None:
    record = {"id": "1", "settings_id": "2", "settings": {}, "tasks": ["x"], "results": []}
    for name, age in (("z-first", 100), ("a-later", 200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text(json.dumps({"run": name, **record}))
        os.utime(tmp_path / name / RECORD, (age, age))
    assert by_settings(read_records(tmp_path))["2"]["run"] == "a-later"


def test_the_commit_is_read_before_a_run_trains(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may change while a run trains."""
    seen: list[str] = []
    monkeypatch.setattr("mt_dnn.studies.make.commit", lambda: seen.append("commit"))
    monkeypatch.setattr("mt_dnn.studies.make._train", lambda *_: seen.append("trained"))
    make(config_of(workspace))
    assert seen == ["commit", "trained"]


def test_without_file_locks_a_run_belongs_to_another_machine_until_its_heart_stops(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    config = config_of(workspace)
    owner = config.output / f"{LOCK}{SOFT}"
    owner.parent.mkdir(parents=True)
    owner.write_text(json.dumps({"host": "elsewhere", "process": 1, "token": "other"}))
    assert make(config) is Busy and owner.exists()
    os.utime(owner, (0, 0))
    record = make(config)
    assert isinstance(record, dict) and record["steps"] == 6 and not owner.exists()
