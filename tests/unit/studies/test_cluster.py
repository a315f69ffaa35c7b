"""Workers as tasks of a Slurm job array. tests/slurm/run.sh runs them on a real Slurm."""

from __future__ import annotations

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import forks
from tests.study_files import write_study

pytestmark = pytest.mark.skipif(find_spec("submitit") is None, reason="the extra studies is not installed")
SBATCH = """#!/bin/sh
cp "$1" "{folder}/script"
env > "{folder}/environment"
echo Submitted batch job 12
"""


def sweep(workspace: Path, *options: str, path: str | None = None) -> tuple[int | None, str, str]:
    arguments = ["sweep", str(workspace / "study.yml"), "--runs", str(workspace / "runs"), "--cluster", "slurm"]
    process = forks.start(*arguments, *options, PATH=path or os.environ["PATH"])
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.fixture
def slurm(tmp_path: Path) -> str:
    """A search path with programs that stand in for Slurm's. ``sbatch`` keeps the script and its environment."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=folder)), ("srun", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_workers_are_an_array_whose_tasks_are_queued_again(workspace: Path, slurm: str) -> None:
    write_study(workspace)
    options = ("--partition", "gpu", "--gpus-per-run", "1", "--workers", "3", "--max-hours", "2")
    code, output, errors = sweep(workspace, *options, path=slurm)
    assert code == 0, errors
    assert output.startswith("submitted 3 workers: 12_0 12_1 12_2;")
    script = (workspace / "slurm" / "script").read_text().splitlines()
    expected = ["--array=0-2%3", "--requeue", "--partition=gpu", "--gpus-per-node=1", "--time=120", "--signal=USR2@180"]
    assert "--guarded" in (workspace / "runs" / "slurm").glob("*.pkl").__next__().read_bytes().decode("latin-1")
    assert {f"#SBATCH {option}" for option in expected} <= set(script)


def test_a_wrong_study_is_not_submitted(workspace: Path, slurm: str) -> None:
    write_study(workspace, axes={"task": ["negated"]})
    (workspace / "data" / "negated_train.tsv").unlink()
    code, _, errors = sweep(workspace, path=slurm)
    assert code == 2 and errors.startswith("mt-dnn: task=negated, seed 1: ") and errors.count("\n") == 1
    assert not (workspace / "slurm" / "script").exists()


def test_without_slurm_there_is_one_line(workspace: Path) -> None:
    write_study(workspace)
    code, _, errors = sweep(workspace, path=str(workspace))
    assert code == 2 and errors.startswith("mt-dnn: --cluster slurm: cannot submit (") and errors.count("\n") == 1


def test_a_task_whose_time_is_nearly_up_lets_its_run_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Thread

    from mt_dnn.studies import cluster

    code = (
        "import signal, sys, time, pathlib\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "def save(*_): file.write_text('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "file.write_text('begun')\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(cluster, "COMMAND", (sys.executable, "-c", code))
    worker, file = cluster.Worker(), tmp_path / "state"
    thread = Thread(target=worker, args=([str(file)],))
    thread.start()
    while not file.exists() or file.read_text() != "begun":
        time.sleep(0.01)
    delayed = worker.checkpoint([str(file)])
    thread.join()
    assert file.read_text() == "saved"
    assert isinstance(delayed.function, cluster.Worker) and delayed.args == ([str(file)],)


def test_a_worker_that_fails_is_a_failed_task(monkeypatch: pytest.MonkeyPatch) -> None:
    from mt_dnn.studies import cluster

    monkeypatch.setattr(cluster, "COMMAND", (sys.executable, "-c", "import sys; sys.exit(2)"))
    with pytest.raises(RuntimeError, match="exit code 2"):
        cluster.Worker()([])
