"""What a run folder may hold before a run begins, and what stays in it as it was."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.cli.main import main
from mt_dnn.runs import folder
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import dump_config, load_config
from mt_dnn.runs.folder import FolderInUse, check_not_of_run, check_same_config, check_unlocked, locked, write_json
from mt_dnn.runs.log import MetricsLog
from mt_dnn.runs.run import Run


@pytest.mark.parametrize(
    "content", ["", "a: 1\n", "- a\n", "data: x\ntrain: {}\n", "a: [", "data: {}\n", "\xff", "train: {epochs: 3}\n"]
)
def test_a_foreign_configuration_is_refused_in_one_line(workspace: Path, content: str) -> None:
    config = load_config(workspace / "run.yml")
    config.output.mkdir()
    (config.output / "config.yml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"run/config.yml") as raised:
        check_same_config(config)
    assert "\n" not in str(raised.value)
    assert (config.output / "config.yml").read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "task_defs.yml", "predictions/same_dev.jsonl"])
def test_a_file_that_a_run_would_replace_is_refused(workspace: Path, name: str) -> None:
    config = load_config(workspace / "run.yml")
    (config.output / name).parent.mkdir(parents=True)
    (config.output / "notes.txt").write_text("")
    check_same_config(config)
    (config.output / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name}: is of no run of this folder; move it away"):
        check_same_config(config)
    dump_config(config, config.output / "config.yml")
    check_same_config(config)


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize(
    "name",
    [
        *("config.yml", "metrics.jsonl", "summary.json", "predictions/same_dev.jsonl"),
        *("checkpoints/step-00000001/heads.safetensors", "best/config.yml"),
    ],
)
def test_answers_do_not_replace_files_of_a_run(
    tmp_path: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    (tmp_path / "best").symlink_to(checkpoint)
    for file in (tmp_path / "config.yml", checkpoint / "config.yml", tmp_path / name):
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    with pytest.raises(SystemExit) as end:
        main([command, "another_run", "--input", "rows.tsv", "--output", str(tmp_path / name)])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and (tmp_path / name).read_text() == "mine"
    assert (
        line
        == f"mt-dnn: {tmp_path / name}: belongs to the run {tmp_path}, and would be replaced; choose another --output"
    )


def test_other_files_in_a_run_folder_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yml", "mine.jsonl", "predictions.jsonl"):
        (tmp_path / name).write_text("mine")
    check_not_of_run(tmp_path / "mine.jsonl")
    check_not_of_run(tmp_path / "predictions.jsonl")
    check_not_of_run(tmp_path / "summary.json")  # there is none
    (tmp_path / "checkpoints").rmdir()
    check_not_of_run(tmp_path / "config.yml")  # of no run


def test_a_foreign_lock_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("mine")
    with locked(tmp_path), pytest.raises(UserError, match="another process is training into this folder"):
        check_unlocked(tmp_path)
    assert (tmp_path / ".lock").read_text() == "mine"
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"\.lock: cannot be read \(Is a directory\)"):
        check_unlocked(tmp_path)


RECORDS = [json.dumps({"event": "train", "step": step}).encode() for step in (5, 10, 15)]


@pytest.mark.parametrize(
    "tail",
    [
        RECORDS[2][:20],
        RECORDS[2][:3],
        RECORDS[2],
        b"",
        b"\0" * 100,
        RECORDS[2][:20] + b"\0" * 9,
        b'{"event": "tra}',
        b'{"event": "evaluation", "scores": {"caf\xc3',
    ],
)
def test_a_cut_tail_of_the_log_does_not_stop_the_next_start(tmp_path: Path, tail: bytes) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"\n".join([*RECORDS, tail]))
    resumed(tmp_path)
    assert log.read_bytes() == b"\n".join([*RECORDS[:2], b""])


@pytest.mark.parametrize(
    "foreign", [b"a note", b"caf\xe9", b"[1, 2]", b'{"step": "x"}', b'{"step": 99, "note": 1}', b"3", b"}"]
)
def test_lines_of_somebody_else_stay_in_the_log(tmp_path: Path, foreign: bytes) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"\n".join([RECORDS[0], foreign, *RECORDS[1:], foreign]))
    resumed(tmp_path)
    assert log.read_bytes() == b"\n".join([RECORDS[0], foreign, RECORDS[1], foreign, b""])


def resumed(folder: Path) -> None:
    MetricsLog(folder, resume_step=10).close()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)


@pytest.mark.usefixtures("no_locks")
def test_a_disk_without_file_locks_gets_locks_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder._say_once.cache_clear()
    check_unlocked(tmp_path)
    with locked(tmp_path):
        for other in (lambda: check_unlocked(tmp_path), lambda: locked(tmp_path).__enter__()):
            with pytest.raises(FolderInUse, match="another process is training into this folder"):
                other()
    check_unlocked(tmp_path)
    with locked(tmp_path), locked(tmp_path, "other"):
        pass
    said = capsys.readouterr()
    assert said.err.count("this disk has no file locks") == 1 and not said.out


def test_who_sees_file_locks_looks_at_the_lock_of_who_does_not(tmp_path: Path) -> None:
    owner = tmp_path / ".lock.owner"
    (tmp_path / ".lock").touch()
    owner.write_text('{"token": "other"}')
    for other in (lambda: check_unlocked(tmp_path), lambda: locked(tmp_path).__enter__()):
        with pytest.raises(FolderInUse):
            other()
    os.utime(owner, (0, 0))
    check_unlocked(tmp_path)
    with locked(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_a_run_whose_folder_was_taken_over_stops_before_it_writes(workspace: Path) -> None:
    taken = '{"token": "other"}'

    def stand_still(*_: object) -> bool:
        (workspace / "run" / ".lock.owner").write_text(taken)
        return False

    run = Run(load_config(workspace / "run.yml", ["train.epochs=2"]), shown=False, hopeless=stand_still)
    with pytest.raises(FolderInUse, match=r"another process has taken over this folder; this one stops"):
        run()
    assert last_checkpoint(run.folder) is None and (run.folder / ".lock.owner").read_text() == taken
    with locked(workspace / "other"):
        (workspace / "other" / ".lock.owner").unlink()
        with pytest.raises(FolderInUse):
            write_json(workspace / "other" / "summary.json", {})


def test_a_lock_that_fails_for_another_reason_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(UserError, match=r"cannot be locked \(Input/output error\)") as caught, locked(tmp_path):
        pass
    assert not isinstance(caught.value, FolderInUse)


def test_a_start_that_has_moved_with_the_run_is_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(start: Path | str, folder: Path | str) -> RunConfig:
        return load_config(workspace / "run.yml", [f"train.init_from={start}", f"output={folder}"])

    first = config(workspace / "runs" / "first", workspace / "runs" / "then")
    first.output.mkdir(parents=True)
    dump_config(first, first.output / "config.yml")
    monkeypatch.chdir(workspace)
    check_same_config(config("runs/first", "runs/then"))
    (workspace / "runs").rename(workspace / "moved")
    check_same_config(config(workspace / "moved" / "first", workspace / "moved" / "then"))
    with pytest.raises(UserError, match=r"holds a run of another configuration \(train.init_from: "):
        check_same_config(config(workspace / "moved" / "other", workspace / "moved" / "then"))
