"""CommonsenseQA's JSONL files (random split) → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import RowSource, each, question_row

FILES = {
    "train": ["CommonsenseQA/train_rand_split.jsonl", "CommonsenseQA/train*.jsonl"],
    "dev": ["CommonsenseQA/dev_rand_split.jsonl"],
    "test": ["CommonsenseQA/test_rand_split_no_answers.jsonl"],
}
TASKS = {"commonsense_qa": RowSource(FILES, each(question_row))}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
