"""XNLI 1.0, one task per language → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.hub import LANGUAGES
from data_utils.benchmarks.sources import Source


def two_splits(language: str) -> dict[str, list[str]]:
    """One file per language, or the official one with all of them."""
    return {
        split: [
            f"{folder}/{name}"
            for folder in ("XNLI-1.0", "XNLI", ".")
            for name in (f"xnli.{split}.{language}.tsv", f"xnli.{split}.tsv")
        ]
        for split in ("dev", "test")
    }


TASKS = {
    f"xnli_{language}": Source(
        two_splits(language), label="gold_label", uid="pairID", extra=("genre",), where={"language": language}
    )
    for language in LANGUAGES
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
