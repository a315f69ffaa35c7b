"""Counts the rows of other splits that are training rows too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from data_utils.prepared import Prepared
from data_utils.scratch import chunks, scratch


def repeated_rows(train: Prepared, split: Prepared) -> int:
    """The number of rows of a split with exactly the tokens of a training row. Labels are not compared.

    Hashes of 64 bits are compared, so that memory need not hold all tokens. With a million rows in each split, the
    chance that two different rows have the same one is below 10⁻⁷.
    """
    seen, asked = _hashes(train), _hashes(split)
    seen.sort()
    count = 0
    for part in chunks(len(asked)):
        found = np.searchsorted(seen, asked[part]).clip(max=len(seen) - 1)
        count += int((seen[found] == asked[part]).sum())
    return count


def repeated_notices(splits: Mapping[tuple[str, str], Prepared]) -> Iterator[str]:
    """Yields a line for each labelled split that repeats training rows of its task.

    ``splits``: by (task, split name). Texts that are cut into windows are left out.
    """
    for (task, name), split in splits.items():
        train = splits.get((task, "train"))
        if train is None or name == "train" or split.labels is None or split.sources is not None:
            continue
        count = repeated_rows(train, split)
        if count:
            yield f"{task}: {count} of {len(split)} rows of {name} have the texts of a training row"


def _hashes(split: Prepared) -> np.ndarray:
    """A hash of the tokens of each row, (N,) int64. They are the same in one process only."""
    found = scratch(len(split), np.int64)
    for part in chunks(len(split)):
        bounds = split.offsets[part.start : part.stop + 1].tolist()
        rows = (split.tokens[start:stop].tobytes() for start, stop in pairwise(bounds))
        found[part] = np.fromiter(map(hash, rows), np.int64, part.stop - part.start)
    return found
