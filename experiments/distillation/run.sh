#!/usr/bin/env bash
# Every run behind experiments/results/distillation_cpu.md; runs that are done are skipped, one that was cut off resumes.
# Usage: bash experiments/distillation/run.sh <data_dir> [seeds]
#   data_dir  folder with glue/ and chunking/, as the converters write them
#   seeds     of the students, default "1 2 3"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data="$(cd "${1:?usage: run.sh <data_dir> [seeds]}" && pwd)"
seeds=${2:-1 2 3} out=${OUTPUT:-runs/distillation}
python=${PYTHON:-.venv/bin/python}

while read -r task defs folder rows; do
    run() {  # name, seed, data folder, further settings
        "$python" -m mt_dnn.cli train experiments/distillation/run.yml "name=$1-$task" "output=$out/$1-$task-seed$2" \
            "tasks=[$task]" "task_defs=task_defs/$defs" "seed=$2" "data.dir=$3" "data.max_rows=$rows" \
            "data.cache=$out/prepared" "${@:4}"
    }
    run teacher 1 "$folder"
    soft="$out/$task"
    [[ -e "$soft/${task}_train.tsv" ]] || "$python" -m mt_dnn.cli distill "$out/teacher-$task-seed1" --data "$folder" \
        --output "$soft" --max-rows "$rows"
    for seed in $seeds; do
        run alone "$seed" "$soft" 'encoder.blocks=[0,2,4]'
        run taught "$seed" "$soft" 'encoder.blocks=[0,2,4]' distillation.weight=0.5 distillation.temperature=2
    done
done <<<"sst2            glue.yml    $data/glue     3000
conll2000_chunk tagging.yml $data/chunking 1000"
