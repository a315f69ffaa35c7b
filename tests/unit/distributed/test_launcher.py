"""The exit code of several workers: 0 only if all have finished or saved, however they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mt_dnn.distributed import launcher
from mt_dnn.distributed.launcher import launch
from mt_dnn.distributed.signals import PREEMPTION, stop_signals

WORKER = """
import os, sys, time
from pathlib import Path
from mt_dnn.distributed.signals import exit_code, follow_launcher, stop_signals
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
follow_launcher()
with stop_signals() as received:
    (folder / f"ready{rank}").touch()
    while not received:
        time.sleep(0.01)
    THEN
(folder / f"saved{rank}").touch()
sys.exit(exit_code(received[0]))
"""


def stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, then: str, *, to_workers: bool = False, **options: float
) -> int:
    """The exit code of a launcher that gets this signal as soon as its two workers are ready."""
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", WORKER.replace("THEN", then)))

    def send() -> None:
        while not all((folder / f"ready{rank}").exists() for rank in "01"):
            time.sleep(0.01)
        command = ["ps", "-o", "pid=", "--ppid", str(os.getpid())]
        pids = subprocess.run(command, capture_output=True, text=True).stdout.split() if to_workers else []
        workers = [int(pid) for pid in pids if b"stop_signals" in _command(pid)]
        for pid in (os.getpid(), *workers):
            os.kill(pid, number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return launch(2, [str(folder)], **options)  # type: ignore[arg-type]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("saved*"))


@pytest.mark.parametrize("to_workers", [False, True])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)]
)
def test_workers_save_before_the_launcher_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, to_workers: bool
) -> None:
    assert stopped(tmp_path, monkeypatch, number, "time.sleep(0.5)", to_workers=to_workers, stop_timeout_s=60) == code
    assert saved(tmp_path) == ["saved0", "saved1"]


def test_workers_that_do_not_save_in_time_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(tmp_path, monkeypatch, signal.SIGTERM, "time.sleep(60)", stop_timeout_s=0.5) == 1
    said = capsys.readouterr().err
    assert "have not saved within 0.5 s" in said and "stopped by SIGTERM before all processes had saved" in said
    assert "continues from the last checkpoint, or begins if there is none" in said


def test_one_worker_that_cannot_save_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = "rank == '0' and sys.exit(1)"
    assert stopped(tmp_path, monkeypatch, signal.SIGTERM, then, stop_timeout_s=60, restarts=3) == 1
    assert saved(tmp_path) == ["saved1"]


def test_workers_save_when_the_launcher_is_killed(tmp_path: Path) -> None:
    worker = (sys.executable, "-c", WORKER.replace("THEN", "pass"))
    script = f"from mt_dnn.distributed import launcher; launcher.COMMAND = {worker}; launcher.launch(2, ['{tmp_path}'])"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        wait_for(lambda: len(list(tmp_path.glob("ready*"))) == 2)
        process.kill()
    wait_for(lambda: saved(tmp_path) == ["saved0", "saved1"])


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("code", "starts"), [(1, 3), (2, 1), (0, 1)])
def test_failed_workers_are_started_again_but_not_after_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, starts: int
) -> None:
    script = f"import sys; open(sys.argv[1] + '/starts', 'a').write('x'); sys.exit({code})"
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", script))
    assert launch(1, [str(tmp_path)], restarts=2) == code
    assert len((tmp_path / "starts").read_text()) == starts


def test_signals_that_repeat_end_nothing_but_a_second_ctrl_c() -> None:
    with stop_signals() as received:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert received == [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("ends_process", [False, True])
def test_a_signal_after_the_end_does_not_end_a_process_that_has_saved(ends_process: bool) -> None:
    """A launcher may hand a signal on that the worker has got before, and a scheduler sends several."""
    before = {number: signal.getsignal(number) for number in (*PREEMPTION, signal.SIGINT)}
    with stop_signals(ends_process=ends_process):
        os.kill(os.getpid(), signal.SIGTERM)
    found = {number: signal.getsignal(number) for number in before}
    assert found == (dict.fromkeys(before, signal.SIG_IGN) if ends_process else before)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGHUP)
    assert received == []
