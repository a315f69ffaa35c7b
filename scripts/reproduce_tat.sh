#!/usr/bin/env bash
# Tables and figures of the TAT paper. Usage and settings: reproduce_common.sh; data and encoders: experiments/tat/README.md.
set -euo pipefail
paper=tat
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# The study that keeps weights comes first: others share its runs.
study figures1_3
# VOTES is a file of annotators' votes: ChaosNLI, or the official MultiNLI.
if [[ -n ${VOTES:-} && -z $dry && " ${unmade[*]-} " != *" figures1_3 "* ]]; then
    found=$(python experiments/run_folders.py experiments/tat/figures1_3.yml ${profile[@]+"${profile[@]}"} --runs "$runs")
    # shellcheck disable=SC2086  # one word for each run
    python -m mt_dnn.cli analyze agreement $found --task mnli --split dev_matched --annotations "$VOTES" \
        --task-defs task_defs/papers_nli.yml --output "$results" --name figure2_matched
    page figures1_3
fi
study table1
study table2
study table3
sizes table4 task_defs/papers_glue.yml=data/glue task_defs/papers_nli.yml=data/nli task_defs/papers_xnli.yml=data/xnli
finish
