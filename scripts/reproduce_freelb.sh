#!/usr/bin/env bash
# Tables of the FreeLB paper. Usage and settings: reproduce_common.sh; data and encoders: experiments/freelb/README.md.
set -euo pipefail
paper=freelb
# shellcheck source=scripts/reproduce_common.sh
source "$(dirname "${BASH_SOURCE[0]}")/reproduce_common.sh"

# Tables 5 and 7. The study that keeps weights comes first: others share its runs.
study table5
steps=2000 examples=(rte=1000 cola=1000 mrpc=1000)
((${#profile[@]})) && steps=200 examples=(rte=20 cola=100 mrpc=20)
for pair in "${examples[@]}"; do
    task=${pair%=*}
    analysis "robustness_$task" robustness table5 task="$task" -- --task "$task" --steps "$steps" \
        --examples "${pair#*=}" --reference freelb --reference pgd
done
study table1
study table2
study table3
study table4
study table8
