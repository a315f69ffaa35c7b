"""scripts/slurm.sh with srun and scontrol played by small scripts: starts, saves when the time is up, queues again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mt_dnn.runs.checkpoints import last_checkpoint
from tests import ROOT
from tests.distributed.workers import free_port
from tests.end_to_end.test_resume import finish, wait_for_step

SRUN = """#!/usr/bin/env bash
# Two processes with Slurm's variables; signals go on to both, as srun hands them on.
shift
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & pids+=($!); done
trap 'kill -USR1 "${pids[@]}"' USR1
code=0
for pid in "${pids[@]}"; do
    while wait "$pid"; own=$?; kill -0 "$pid" 2> /dev/null; do :; done  # a signal ends wait, not the process
    [[ $own == 0 ]] || code=$own
done
exit $code
"""
MT_DNN = f"""#!/usr/bin/env bash
exec {sys.executable} -m mt_dnn.cli "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo localhost; else echo "$@" >> "$CALLS"; fi
"""


@pytest.mark.slow
def test_a_job_saves_before_its_time_is_up_and_is_queued_again(workspace: Path) -> None:
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "mt-dnn": MT_DNN}.items():
        (workspace / name).write_text(text)
        (workspace / name).chmod(0o755)
    calls, output = workspace / "calls", workspace / "run"
    environment = {
        **os.environ,
        "PATH": f"{workspace}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_ID": str(free_port() - 20000),
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "OMP_NUM_THREADS": "1",
    }
    options = ["tasks=[same]", "train.epochs=40", "checkpoint.every_steps=3", "evaluation.every_steps=60"]
    command = ["bash", "scripts/slurm.sh", str(workspace / "run.yml"), *options]
    job = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(output, job, 6)
    for _ in range(2):  # Slurm sends signals at several occasions, such as preemption and the end of the time
        job.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
    assert "the same command continues" in finish(job)
    assert calls.read_text().split() == ["requeue", environment["SLURM_JOB_ID"]]
    stopped = last_checkpoint(output)
    assert stopped is not None and not (output / "summary.json").exists()
