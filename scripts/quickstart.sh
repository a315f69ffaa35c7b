#!/usr/bin/env bash
# From nothing to a trained multi-task model: installs, generates small data sets, trains and prints the scores.
# Usage: bash scripts/quickstart.sh [key=value ...]        for example seed=2 output=runs/quickstart-2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/python experiments/quickstart/generate.py --output data/quickstart
exec .venv/bin/mt-dnn train experiments/quickstart/run.yml "$@"
