"""Writes the quick-start data, as ``mt-dnn data quickstart`` does.

Usage: python experiments/quickstart/generate.py --output data/quickstart [--seed 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_utils.benchmarks.quickstart import generate


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the quick-start data.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the TSV files")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for path in generate(arguments.output, seed=arguments.seed):
        print(path)


if __name__ == "__main__":
    main()
