#!/usr/bin/env bash
# Tables and figures of the TAT paper. Usage and settings: reproduce_common.sh; data and encoders: experiments/tat/README.md.
set -euo pipefail
paper=tat
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# Studies that keep weights come first: others share their runs.
study figures1_3
analysis figure1 confusion figures1_3 -- --task mnli --split dev_matched
if [[ -n ${VOTES:-} ]]; then # a file of annotators' votes: ChaosNLI, or the official MultiNLI
    analysis figure2_matched agreement figures1_3 -- --task mnli --split dev_matched --annotations "$VOTES" \
        --task-defs task_defs/papers_nli.yml
fi
analysis figure3 loss-surface figures1_3 -- --task mnli
study table1
study table2
study table3
sizes table4 task_defs/papers_glue.yml=data/glue task_defs/papers_nli.yml=data/nli task_defs/papers_xnli.yml=data/xnli
