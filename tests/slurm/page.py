"""Compares the runs of the array with those without Slurm, and prints the page of tests/slurm/run.sh."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import submitit
import torch

from data_utils.text_table import markdown
from mt_dnn.studies.records import commit, read_records

PAGE = """# Sweeps and training on a real Slurm
Made by `bash tests/slurm/run.sh > experiments/results/slurm.md` on a cluster with one node of two processors, on the
loopback of one machine: {slurm}, Python {python}, torch {torch}, submitit {submitit}, commit {commit}. The encoder is
tiny and the rows are made up.

A study of six runs was made without Slurm, and as a job array of six workers:

    mt-dnn sweep STUDY.yml --cluster slurm --partition last --gpus-per-run 0 --workers 6

While runs were in training, a job of a partition with a higher priority preempted their workers. These saved, were
queued again and went on. What they said of it:

{resumed}

{jobs}

Each run has the same scores and the same weights, bit for bit, as without Slurm:

{runs}

`sbatch --ntasks-per-node=2 scripts/slurm.sh RUN.yml` trained a run of three tasks in two processes to its end.
"""


def outcomes(folder: Path) -> dict[str, tuple[Any, str]]:
    """The scores of each run, and a hash of its weights."""
    found = {}
    for record in read_records(folder):
        digest = hashlib.sha256()
        for file in sorted((folder / record["run"]).rglob("checkpoints/**/*.safetensors")):
            digest.update(file.read_bytes())
        found[record["run"]] = (record["results"], digest.hexdigest()[:12])
    return found


def jobs(file: Path) -> list[list[str]]:
    """The rows of the table of jobs: id, task, state, restarts, partition."""
    rows: list[dict[str, str]] = []
    for line in file.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "JobId":
            rows.append({})
        rows[-1][key] = value
    keys = ("JobId", "ArrayTaskId", "Partition", "JobState", "Restarts")
    return sorted([row.get(key, "") for key in keys] for row in rows)


def main() -> None:
    folder = Path(sys.argv[1])
    direct, array = outcomes(folder / "work" / "direct"), outcomes(folder / "work" / "array")
    table = jobs(folder / "jobs")
    printed = "".join(file.read_text() for file in (folder / "work" / "array" / "slurm").glob("*_log.out"))
    said = [line for line in printed.splitlines() if line.startswith(("stopped after", "resuming"))]
    problems = []
    if len(direct) != 6 or direct != array:
        problems.append(f"the runs differ: {direct} and {array}")
    if not any(int(row[-1]) for row in table) or not any(line.startswith("resuming") for line in said):
        problems.append("no worker was queued again and went on with a run")
    if any(row[3] != "COMPLETED" for row in table):
        problems.append(f"not all jobs are completed: {table}")
    if problems:
        sys.exit("\n".join(problems))
    slurm = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    print(
        PAGE.format(
            slurm=slurm,
            python=platform.python_version(),
            torch=torch.__version__,
            submitit=submitit.__version__,
            resumed="\n".join(f"    {line.replace(str(folder), '…')}" for line in said),
            commit=commit(),
            jobs=markdown(("job", "task", "partition", "state", "restarts"), table),
            runs=markdown(("run", "SHA-256 of its weights"), [(name, value[1]) for name, value in array.items()]),
        ),
        end="",
    )


if __name__ == "__main__":
    main()
