#!/usr/bin/env bash
# Every run behind experiments/results/tasks_cpu.md; runs that are done are skipped, one that was cut off resumes.
# Usage: bash experiments/tasks/run.sh <data_dir> [seeds] [runs]
#   data_dir  folder with glue/, arc/, commonsense_qa/, superglue/, ner/, chunking/, squad/, as the converters write them
#   seeds     default "1 2 3"     runs  default: all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data="$(cd "${1:?usage: run.sh <data_dir> [seeds] [runs]}" && pwd)"
seeds=${2:-1 2 3} wanted=${3:-} out=${OUTPUT:-runs/tasks}
python=${PYTHON:-.venv/bin/python}

# BoolQ: the training rows are not in every collection; without them the first 2,270 of its 3,270 validation rows are
# trained on and the last 1,000 scored.
superglue="$data/superglue"
if [[ ! -e "$superglue/boolq_train.tsv" && -e "$superglue/boolq_dev.tsv" ]]; then
    superglue="$out/superglue"
    mkdir -p "$superglue"
    cp "$data"/superglue/c*.tsv "$superglue"
    head -n 2271 "$data/superglue/boolq_dev.tsv" >"$superglue/boolq_train.tsv"
    { head -n 1 "$data/superglue/boolq_dev.tsv" && tail -n 1000 "$data/superglue/boolq_dev.tsv"; } >"$superglue/boolq_dev.tsv"
fi

if [[ ! -e "$out/derived/squad_cloze_test.tsv" ]]; then
    PYTHONPATH=. "$python" experiments/tasks/derive.py "$data" "$out/derived"
fi

# Word labels as a conditional random field: the same tasks with one key more.
mkdir -p "$out"
sed 's/task_type: sequence_labelling/&\n  crf: true/' task_defs/tagging.yml >"$out/tagging_crf.yml"

#         run                 task definitions              folder                         tokens, rows, epochs
settings="wnut17              task_defs/tagging.yml         $data/ner            128 -     3
          conll2000_chunk     task_defs/tagging.yml         $data/chunking       128 4000  2
          wnut17_crf          $out/tagging_crf.yml          $data/ner            128 -     3
          conll2000_chunk_crf $out/tagging_crf.yml          $data/chunking       128 4000  2
          squad               task_defs/squad.yml           $data/squad          256 -     2
          arc_easy            task_defs/multiple_choice.yml $data/arc            96  -     3
          commonsense_qa      task_defs/multiple_choice.yml $data/commonsense_qa 64  4000  1
          cb                  task_defs/superglue.yml       $superglue           256 -     5
          copa                task_defs/superglue.yml       $superglue           64  -     5
          boolq               task_defs/superglue.yml       $superglue           256 -     4
          sst2_words          task_defs/derived.yml         $out/derived         64  10000 2
          stsb_grade          task_defs/derived.yml         $out/derived         96  1000  3
          conll2000_kinds     task_defs/derived.yml         $out/derived         96  2000  2
          squad_cloze         task_defs/derived.yml         $out/derived         128 1000  2"

for seed in $seeds; do
    while read -r name defs folder tokens rows epochs; do
        if [[ -n "$wanted" && " $wanted " != *" $name "* ]]; then continue; fi
        [[ $rows == - ]] && limit=() || limit=("data.max_rows=$rows")
        "$python" -m mt_dnn.cli train experiments/tasks/run.yml "name=$name" "output=$out/$name-seed$seed" "tasks=[${name%_crf}]" \
            "task_defs=$defs" "data.dir=$folder" "data.max_length=$tokens" "train.epochs=$epochs" "seed=$seed" \
            "${limit[@]}"
    done <<<"$settings"
    if [[ -z "$wanted" || " $wanted " == *" mixed "* ]]; then  # all types in one encoder, adversarial
        mkdir -p "$out/mixed_rows"
        ln -sf "$data"/glue/{mrpc,stsb}_*.tsv "$data"/arc/arc_easy_*.tsv "$data"/ner/wnut17_*.tsv "$data"/squad/*quad_*.tsv \
            "$out/mixed_rows"
        "$python" -m mt_dnn.cli train experiments/tasks/run.yml name=mixed "output=$out/mixed-seed$seed" \
            task_defs=task_defs/mixed.yml "data.dir=$out/mixed_rows" data.max_length=192 data.max_rows=1000 train.epochs=2 \
            "seed=$seed" adversary.mode=tat
    fi
done
