#!/usr/bin/env bash
#SBATCH --job-name=mt-dnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
# One process per GPU on several machines under Slurm. Usage, from the root of the project:
#   sbatch scripts/slurm.sh experiments/glue/mtdnn.yml seed=3
# Three minutes before the time is up, and when the job is preempted, all processes save and leave; the job is queued
# again and goes on from there. The project and its .venv have to be on a disk that all machines see.
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: sbatch scripts/slurm.sh <run.yml> [key=value ...]" >&2; exit 2; }
export PATH="$PWD/.venv/bin:$PATH"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# shellcheck disable=SC2016  # the variables are those of each process
srun --kill-on-bad-exit=1 bash -c '
    export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
    exec mt-dnn train "$@"' train "$@" &
job=$!

again=0
trap 'again=1; kill -USR1 "$job"' USR1 # srun hands it on to every process
trap 'again=1; kill -TERM "$job"' TERM
while kill -0 "$job" 2> /dev/null; do wait "$job" || true; done # a signal ends wait, not the job
code=0
wait "$job" || code=$?
[[ $again == 1 && $code == 0 ]] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
