#!/usr/bin/env bash
# Fine-tunes an encoder on one GLUE task, or on all of them together.
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: bash scripts/train_glue.sh <data_dir> <encoder> <task|mtdnn> [batch] [gpus] [adversary]
  data_dir    canonical GLUE rows, as experiments/glue/README.md makes them
  encoder     hub name or local folder, for example bert-base-uncased
  task        a task of task_defs/glue.yml, for example rte; mtdnn trains all of them together
  batch       examples in one batch (default 32)
  gpus        number of GPUs, one process each (default 1)
  adversary   adversarial mode, or preset:<name>, for example preset:tat/mtdnn (default none)
example: bash scripts/train_glue.sh data/glue bert-base-uncased mtdnn 32
TEXT
    exit 2
}

refuse() {
    echo "train_glue: $1" >&2
    exit 2
}

[[ $# -ge 3 && $# -le 6 ]] || usage
data_dir=$1 encoder=$2 task=$3 batch=${4:-32} gpus=${5:-1} adversary=${6:-none}

[[ -d $data_dir ]] || refuse "$data_dir: no such data folder; see experiments/glue/README.md"
data_dir="$(cd "$data_dir" && pwd)"
[[ -d $encoder ]] && encoder="$(cd "$encoder" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ $batch =~ ^[1-9][0-9]*$ ]] || refuse "batch '$batch': a whole number above 0 is expected"
[[ $gpus =~ ^[1-9][0-9]*$ ]] || refuse "gpus '$gpus': a whole number above 0 is expected"

case $adversary in
    preset:*) setting="adversary=$adversary" ;;
    *) setting="adversary.mode=$adversary" ;;
esac
config=experiments/glue/run.yml tasks=("tasks=[$task]")
[[ $task == mtdnn ]] && config=experiments/glue/mtdnn.yml tasks=()

bash scripts/setup.sh
exec .venv/bin/mt-dnn train --gpus "$gpus" "$config" ${tasks[@]+"${tasks[@]}"} "data.dir=$data_dir" "encoder.name=$encoder" \
    "train.batch_size=$batch" "$setting" "output=runs/glue-$task-$(basename "$encoder")-${adversary//[:\/]/-}"
