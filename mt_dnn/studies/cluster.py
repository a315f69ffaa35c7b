"""Runs of a study on a cluster: a Slurm job array, each task of which is a worker. submitit talks to Slurm."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from data_utils.errors import UserError
from mt_dnn.distributed.launcher import COMMAND
from mt_dnn.threads import CORES, NUMBER

try:
    import submitit
except ImportError:
    raise UserError("--cluster: submitit is not installed; pip install 'mt-dnn[studies]'") from None

NOTICE_S = 180  # seconds before the end of its time at which Slurm tells a task, so that it can save
USUAL_HOURS = 24.0
TIMES = 1000  # that a task may be queued again because its time was up


@dataclass(frozen=True)
class Job:
    """What a task of the array asks Slurm for. ``hours``: after so many it saves and is queued again."""

    partition: str | None
    gpus: int
    hours: float | None


class Worker(submitit.helpers.Checkpointable):
    """A task of the array. ``mt-dnn`` runs as a process of its own, which saves when it is asked to end."""

    def __call__(self, arguments: Sequence[str]) -> int:
        """Runs ``mt-dnn`` with these arguments. Returns its exit code, if that is 0.

        Raises:
            RuntimeError: the command has failed, so that Slurm shows the task as failed.
        """
        self.process = Popen([*COMMAND, *arguments])
        code = self.process.wait()
        if code:
            raise RuntimeError(f"mt-dnn has ended with the exit code {code}; its last words stand above")
        return code

    def checkpoint(self, arguments: Sequence[str]) -> Any:
        """Called when the task's time is nearly up: lets the run be saved. Returns what the queued task does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(NOTICE_S * 0.8)
        except TimeoutExpired:  # the run then goes on from its last checkpoint
            self.process.kill()
        return submitit.helpers.DelayedSubmission(Worker(), arguments)


def submit(arguments: Sequence[str], count: int, folder: Path, job: Job) -> list[str]:
    """Submits an array of workers with these arguments of ``mt-dnn``. Returns the Slurm ids of its tasks.

    Args:
        folder: where submitit writes what tasks print, as ``<id>_0_log.out`` and ``.err``. All machines have to see it.

    Raises:
        UserError: Slurm is not there, or refuses the job.
    """
    if os.environ.get(NUMBER) == os.environ.get(CORES):  # the cores of this machine are not those of a task
        for name in (NUMBER, CORES):
            os.environ.pop(name, None)
    threads = {"cpus_per_task": int(os.environ[NUMBER])} if NUMBER in os.environ else {}
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=TIMES)
        executor.update_parameters(
            name="mt-dnn-sweep",
            timeout_min=round(60 * (job.hours or USUAL_HOURS)),
            slurm_partition=job.partition,
            slurm_signal_delay_s=NOTICE_S,
            slurm_additional_parameters={"requeue": True, "open_mode": "append"},
            **({"gpus_per_node": job.gpus} if job.gpus else {}),
            **threads,
        )
        jobs = executor.map_array(Worker(), [tuple(arguments)] * count)
    except (RuntimeError, submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"--cluster slurm: cannot submit ({' '.join(str(error).split())[:300]})") from None
    return [str(found.job_id) for found in jobs]
