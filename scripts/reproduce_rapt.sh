#!/usr/bin/env bash
# Tables and figures of the RAPT paper. Usage and settings: reproduce_common.sh; data and encoders:
# experiments/rapt/README.md.
set -euo pipefail
paper=rapt
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# The study that keeps weights comes first: others share its runs.
study tables4_6
study table2
study table3
study figure1
study figure2
study figure3
sizes table1 task_defs/papers_glue.yml=data/glue task_defs/papers_nli.yml=data/nli
finish
