#!/usr/bin/env bash
# Fine-tunes an encoder on one GLUE task, or on all of them together.
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: bash scripts/train_glue.sh <data_dir> <encoder> <task|mtdnn> [batch] [gpus] [adversary] [key=value …]
  data_dir    canonical GLUE rows, as experiments/glue/README.md makes them
  encoder     hub name or local folder, for example bert-base-uncased
  task        a task of task_defs/glue.yml, for example rte; mtdnn trains all of them together
  batch       examples in one batch (default 32)
  gpus        number of GPUs, one process each (default 1)
  adversary   adversarial mode, or preset:<name>, for example preset:tat/mtdnn (default none)
  key=value   settings of the run file, for example seed=2 train.epochs=5
examples: bash scripts/train_glue.sh data/glue bert-base-uncased mtdnn 32
          bash scripts/train_glue.sh data/glue bert-base-uncased rte seed=2
TEXT
    exit 2
}

refuse() {
    echo "train_glue: $1" >&2
    exit 2
}

given=() settings=() seed=1
for argument in "$@"; do
    if [[ ${#given[@]} -ge 3 && $argument == *=* ]]; then
        settings+=("$argument")
        [[ $argument == seed=* ]] && seed=${argument#seed=}
    else
        given+=("$argument")
    fi
done
[[ ${#given[@]} -ge 3 && ${#given[@]} -le 6 ]] || usage
data_dir=${given[0]} encoder=${given[1]} task=${given[2]}
batch=${given[3]:-32} gpus=${given[4]:-1} adversary=${given[5]:-none}

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

name="glue-$task-$(basename "$encoder")-${adversary//[:\/]/-}-batch$batch-seed$seed"
mt_dnn=mt-dnn
if [[ -z ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} ]] || ! command -v mt-dnn >/dev/null; then # no environment with mt-dnn is active
    bash scripts/setup.sh
    mt_dnn=.venv/bin/mt-dnn
fi
exec "$mt_dnn" train --gpus "$gpus" "$config" ${tasks[@]+"${tasks[@]}"} "data.dir=$data_dir" "encoder.name=$encoder" \
    "train.batch_size=$batch" "$setting" "name=$name" "output=runs/$name" ${settings[@]+"${settings[@]}"}
