"""CoNLL-2000, chunks and parts of speech → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import ColumnSource

FILES = {"train": ["CoNLL2000/train.txt"], "test": ["CoNLL2000/test.txt"]}
TASKS = {"conll2000_chunk": ColumnSource(FILES), "conll2000_pos": ColumnSource(FILES, label=2)}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
