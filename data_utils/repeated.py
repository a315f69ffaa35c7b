"""Counts the rows of other splits that are training rows too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from data_utils.prepared import Prepared


def repeated_rows(train: Prepared, split: Prepared) -> int:
    """The number of rows of a split with exactly the tokens of a training row. Labels are not compared."""
    seen = set(_rows(train))
    return sum(row in seen for row in _rows(split))


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


def _rows(split: Prepared) -> Iterator[bytes]:
    """The tokens of each row."""
    for start, stop in zip(split.offsets[:-1], split.offsets[1:], strict=True):
        yield split.tokens[start:stop].tobytes()
