#!/usr/bin/env bash
# Runs the whole test suite and reports the slowest tests. Usage: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
# Tests of a file stay on one worker, since they share long runs; the longest files come first.
# Three workers for two cores, since tests wait a third of their time for other processes.
# One thread a process: the tests are small, and threads that compete for cores are slower than none.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Memory in huge pages, Python's objects included: see experiments/speed/huge_pages.py.
export GLIBC_TUNABLES="${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}" PYTHONMALLOC="${PYTHONMALLOC-malloc}"
# Tests start processes, which read compiled modules faster. An environment may have turned those off.
unset PYTHONDONTWRITEBYTECODE
exec .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=15 "$@"
