#!/usr/bin/env bash
# Tables of the FreeLB paper. Usage and settings: reproduce_common.sh; data and encoders: experiments/freelb/README.md.
set -euo pipefail
paper=freelb
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# Tables 5 and 7. The study that keeps weights comes first: others share its runs.
study table5
attack=(--steps 2000 --levels 10) examples=(rte=1000 cola=2000 mrpc=1000)
((${#profile[@]})) && attack=(--steps 200 --levels 4) examples=(rte=10 cola=100 mrpc=10)
for pair in "${examples[@]}"; do
    task=${pair%=*}
    analysis "robustness_$task" robustness table5 task="$task" -- --task "$task" "${attack[@]}" \
        --examples "${pair#*=}" --reference freelb --reference pgd
done
study table1
study table2
study table3
study table4
study table8
