#!/usr/bin/env bash
# A real Slurm with one node on this machine, and on it a sweep as a job array and scripts/slurm.sh with two tasks.
# Needs Debian's slurm-wlm and munge (apt-get install slurm-wlm munge), root, and the extra studies:
#   bash tests/slurm/run.sh > experiments/results/slurm.md
# Nothing outside a temporary folder is written. Where Slurm is not installed, it says so and exits with 0.
set -euo pipefail
cd "$(dirname "$0")/../.."

for program in slurmctld slurmd srun sbatch munged; do
    command -v "$program" > /dev/null || { echo "skipped: $program is not installed (apt-get install slurm-wlm munge)" >&2; exit 0; }
done
[[ $(id -u) == 0 ]] || { echo "skipped: slurmd has to be started by root" >&2; exit 0; }

folder=$(mktemp -d /tmp/mt_dnn_slurm.XXXXXX)
export SLURM_CONF=$folder/slurm.conf PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1 TQDM_DISABLE=1
log() { echo "$(date +%T) $*" >&2; }
started=()
end() {
    for process in "${started[@]}"; do kill "$process" 2> /dev/null || true; done
    wait "${started[@]}" 2> /dev/null || true # they still write into the folder
    [[ -n ${KEEP:-} ]] || rm -rf "$folder"
}
trap end EXIT

# The cluster: munged with a key of its own, a controller and a node with two processors, two partitions. A job in the
# partition "first" preempts jobs in the partition "last", which are queued again.
mkdir -p "$folder"/{munge,state,spool,bin}
chmod 755 "$folder"; chmod 700 "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=1 count=1024 status=none
chmod 400 "$folder/munge/key"
socket=$folder/munge.socket
munged --foreground --force --key-file="$folder/munge/key" --socket="$socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" 2> "$folder/munge/errors" &
started+=($!)
host=$(hostname -s)
cat > "$SLURM_CONF" << END
ClusterName=mt-dnn
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
MinJobAge=3600
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=last Nodes=$host Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=first Nodes=$host PriorityTier=10 MaxTime=INFINITE PreemptMode=OFF State=UP
END
slurmctld -D 2> "$folder/slurmctld.errors" &
started+=($!)
slurmd -D -N "$host" 2> "$folder/slurmd.errors" &
started+=($!)
for _ in $(seq 60); do
    sinfo --noheader --format=%T 2> /dev/null | grep -q idle && break
    sleep 1
done
sinfo --noheader --format=%T | grep -q idle || { log "the node does not come up:"; tail -n 5 "$folder"/slurm*.log >&2; exit 1; }
log "Slurm is up"

printf '#!/bin/sh\nexec python -m mt_dnn.cli "$@"\n' > "$folder/bin/mt-dnn"
chmod +x "$folder/bin/mt-dnn"
export PATH=$folder/bin:$PATH
python - "$folder" << 'END'
import sys
from pathlib import Path

from tests.study_files import write_study
from tests.workspace import make_workspace

folder = Path(sys.argv[1]) / "work"
folder.mkdir()
make_workspace(folder)
settings = {"tasks": ["negated"], "train.epochs": 30, "checkpoint.every_steps": 3}
write_study(folder, settings=settings, axes={"optimizer.lr": [0.001, 0.003]}, seeds=3, keep="model")
END

waits() { # until a command succeeds, at most ten minutes
    for _ in $(seq 1200); do "$@" && return 0; sleep 0.5; done
    log "waited too long for: $*"
    exit 1
}
array_is_done() { [[ -z $(squeue --noheader) ]]; }
in_training() { # a run has a checkpoint and is not finished
    for run in "$folder"/work/array/negated-*; do
        [[ -d $run/checkpoints ]] && compgen -G "$run/checkpoints/step-*" > /dev/null && [[ ! -e $run/record.json ]] && return 0
    done
    return 1
}

log "the six runs without Slurm"
mt-dnn sweep "$folder/work/study.yml" --runs "$folder/work/direct" 2> /dev/null > /dev/null
log "the six runs as an array"
mt-dnn sweep "$folder/work/study.yml" --runs "$folder/work/array" --cluster slurm --partition last --gpus-per-run 0 --workers 6 >&2
waits in_training
log "a job that preempts"
sbatch --quiet --partition=first --ntasks=2 --output=/dev/null --wrap="sleep 3"
waits array_is_done
scontrol --oneliner show job | tr ' ' '\n' | grep -E "^(JobId|ArrayTaskId|JobState|Restarts|Partition)=" > "$folder/jobs"
log "scripts/slurm.sh with two tasks"
sbatch --quiet --nodes=1 --ntasks-per-node=2 --gpus-per-node=0 --cpus-per-task=1 --partition=last \
    --output="$folder/train.log" scripts/slurm.sh "$folder/work/run.yml" train.epochs=2
waits array_is_done
[[ -f $folder/work/run/summary.json ]] || { log "scripts/slurm.sh has not trained:"; tail -n 20 "$folder/train.log" >&2; exit 1; }

python tests/slurm/page.py "$folder"
