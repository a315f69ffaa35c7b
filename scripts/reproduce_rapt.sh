#!/usr/bin/env bash
# Tables and figures of the RAPT paper. Usage and settings: reproduce_common.sh; data and encoders:
# experiments/rapt/README.md.
set -euo pipefail
paper=rapt
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# Studies that keep weights come first: others share their runs.
study tables4_6
for word in country can; do
    analysis "neighbours_${word}_embeddings" neighbours tables4_6 -- --task rte --word "$word" --level 0
    analysis "neighbours_${word}_block2" neighbours tables4_6 method=rapt -- --task rte --word "$word" --level 2
done
study table2
study figure1
study figure2
study figure3
sizes table1 task_defs/papers_glue.yml=data/glue task_defs/papers_nli.yml=data/nli
