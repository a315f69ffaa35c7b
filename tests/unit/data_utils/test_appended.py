"""Arrays whose rows come in parts, and large arrays that are not in memory."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from data_utils import scratch
from data_utils.appended import Appended


def joined(*parts: np.ndarray) -> np.ndarray:
    with ExitStack() as files:
        found = Appended(files)
        for part in parts:
            found.append(part)
        return found.array()


@pytest.mark.parametrize(
    "parts",
    [
        [np.arange(3)],
        [np.arange(3), np.arange(4), np.arange(1)],
        [np.array([0.5]), np.array([1, 2])],
        [np.eye(3), np.ones((2, 3))],
        [np.array(["a", ["b"]], object), np.array(["c"], object)],
    ],
)
def test_parts_are_what_numpy_makes_of_them(parts: list[np.ndarray]) -> None:
    found, expected = joined(*parts), np.concatenate(parts)
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist()


def test_columns_that_a_part_lacks_are_zero() -> None:
    assert joined(np.ones((1, 2)), np.full((2, 3), 2.0)).tolist() == [[1, 1, 0], [2, 2, 2], [2, 2, 2]]


def test_large_arrays_are_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 800)
    small, large = scratch.scratch(99, np.float64), scratch.scratch((50, 2), np.float64)
    assert small.base is None and isinstance(large.base, np.memmap)
    large[:] = np.arange(100).reshape(50, 2)
    assert type(large) is np.ndarray and large.sum() == 4950


def test_a_full_disk_leaves_large_arrays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "LARGE", 800)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert scratch.scratch((50, 2), np.float64).base is None


def test_chunks_are_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "AT_ONCE", 4)
    assert [range(10)[part] for part in scratch.chunks(10)] == [range(4), range(4, 8), range(8, 10)]
    assert list(scratch.chunks(0)) == []
