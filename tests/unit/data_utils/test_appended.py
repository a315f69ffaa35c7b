"""Arrays whose rows come in parts, and large arrays that are not in memory."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils import scratch
from data_utils.appended import Appended


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def joined(*parts: np.ndarray) -> np.ndarray:
    with ExitStack() as files:
        found = Appended(files)
        for part in parts:
            found.append(part)
        return found.array()


@pytest.mark.parametrize("large", [1, 30, 1 << 22])  # in a file, first in memory, and in memory only
@pytest.mark.parametrize(
    "parts",
    [
        [np.arange(3)],
        [np.arange(3), np.arange(4), np.arange(1)],
        [np.array([0.5]), np.array([1, 2])],
        [np.eye(3), np.ones((2, 3))],
        [np.eye(3), np.ones((0, 3)), np.ones((2, 3))],
        [np.array(["a", ["b"]], object), np.array(["c"], object)],
    ],
)
def test_parts_are_what_numpy_makes_of_them(
    parts: list[np.ndarray], large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "LARGE", large)
    found, expected = joined(*parts), np.concatenate(parts)
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist()


def test_columns_that_a_part_lacks_are_zero() -> None:
    assert joined(np.ones((1, 2)), np.full((2, 3), 2.0)).tolist() == [[1, 1, 0], [2, 2, 2], [2, 2, 2]]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
@pytest.mark.parametrize("large", [1, 1 << 22])
def test_no_file_stays_open(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", large)
    before = descriptors()
    arrays = [joined(np.arange(5000), np.arange(4)) for _ in range(20)]
    assert descriptors() == before
    assert all(array.tolist() == [*range(5000), *range(4)] for array in arrays)


def test_small_arrays_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    assert joined(np.arange(9000), np.arange(2)).tolist() == [*range(9000), 0, 1]


class Full(io.FileIO):
    """A file on a disk with room for 100 bytes."""

    def write(self, content: Any) -> int:
        if room := 100 - self.tell():
            return super().write(content[:room])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("room", [0, 100])
def test_without_room_the_parts_stay_in_memory(room: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def opened(**options: Any) -> Full:
        if not room:
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
        return Full(tmp_path / "file", "w+")

    monkeypatch.setattr(scratch, "LARGE", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", opened)
    assert joined(*(np.arange(3) + row for row in range(9))).tolist() == [row + i for row in range(9) for i in range(3)]


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
