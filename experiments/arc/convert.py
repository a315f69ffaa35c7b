"""ARC's JSONL files, Easy and Challenge → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import RowSource, each, question_row


def three_splits(part: str) -> dict[str, list[str]]:
    """The official folder, or all files in one; a part of a training file may carry its number of rows."""
    return {
        split: [
            f"ARC-V1-Feb2018-2/ARC-{part}/ARC-{part}-{name}.jsonl",
            f"ARC/ARC-{part}-{name}.jsonl",
            f"ARC/ARC-{part}-{name}_*.jsonl",
        ]
        for split, name in (("train", "Train"), ("dev", "Dev"), ("test", "Test"))
    }


TASKS = {
    "arc_easy": RowSource(three_splits("Easy"), each(question_row)),
    "arc_challenge": RowSource(three_splits("Challenge"), each(question_row)),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
