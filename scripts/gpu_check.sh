#!/usr/bin/env bash
# Checks on a GPU that training is right, then measures how fast it is, in at most ten minutes. Needs no data and no
# network. The page (default: experiments/results/gpu.md) and the records beside it are written as results come.
# Usage: bash scripts/gpu_check.sh [--output PAGE.md] [--device cuda:1] [--quick]
#   --device cpu --quick   tries the command itself on a machine without a GPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "gpu_check: $1" >&2
    exit 2
}

command="bash scripts/gpu_check.sh${*:+ $*}"
page=experiments/results/gpu.md device=cuda quick=()
while (($#)); do
    case $1 in
    --output) page=${2-} && [[ $page == *.md ]] || fail "--output needs a file whose name ends in .md"; shift 2 ;;
    --device) device=${2-} && [[ $device =~ ^(cpu|cuda(:[0-9]+)?)$ ]] || fail "--device needs cuda, cuda:1 or cpu"; shift 2 ;;
    --quick) quick=(--quick) && shift ;;
    *) fail "unknown argument '$1' (known: --output, --device, --quick)" ;;
    esac
done

python=python3
[[ -x .venv/bin/python ]] && python=.venv/bin/python
needed=(accelerate datasets omegaconf pydantic pytest seqeval torch transformers typer)
missing="$("$python" -c 'import sys
from importlib.util import find_spec
print(*[name for name in sys.argv[1:] if find_spec(name) is None])' "${needed[@]}")" || exit 2
[[ -z $missing ]] || fail "$python lacks $missing; run bash scripts/setup.sh"
[[ -d $(dirname "$page") ]] || fail "--output $page: no folder $(dirname "$page"); make it first"
if [[ $device != cpu ]]; then
    "$python" -c 'import sys, torch
sys.exit(torch.cuda.device_count() <= (torch.device(sys.argv[1]).index or 0))' "$device" 2>/dev/null ||
        fail "this machine has no GPU '$device'; --device cpu --quick tries the command without one"
fi

tests="${page%.md}_tests.txt" records="${page%.md}.jsonl" failed=0
: >"$tests"
: >"$records"
write_page() {
    "$python" experiments/gpu/page.py --tests "$tests" --records "$records" --command "$command" --device "$device" \
        --output "$page"
}

echo "gpu_check: is it right? (at most 3 minutes)" >&2
MT_DNN_TEST_DEVICE=$device timeout --signal=INT --kill-after=10 180 \
    "$python" -m pytest tests/gpu -p no:cacheprovider -q -ra --tb=short 2>&1 | tee "$tests" || failed=1
write_page
echo "gpu_check: how fast is it? (at most 6 minutes)" >&2
timeout --signal=INT --kill-after=10 360 \
    "$python" -m mt_dnn.cli bench gpu --device "$device" "${quick[@]}" --json | tee "$records" || failed=1
write_page
exit $failed
