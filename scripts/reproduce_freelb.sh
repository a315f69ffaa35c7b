#!/usr/bin/env bash
# Tables of the FreeLB paper. Usage and settings: reproduce_common.sh; data and encoders: experiments/freelb/README.md.
set -euo pipefail
paper=freelb
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# The study that keeps weights, of tables 5 and 7, comes first: others share its runs.
study table5
study table1
study table2
study table3
study table4
study table8
finish
