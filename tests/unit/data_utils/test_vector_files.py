"""Files of vectors that grow by parts are read by NumPy, pyarrow and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from data_utils.errors import UserError
from data_utils.vector_files import vector_file
from tests.cuts import cut_everywhere


def read(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".safetensors":
        return load_file(path)["vectors"]
    return np.stack(pq.read_table(path)["vector"].to_numpy())


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [[3], [200, 150], [1, 0, 999, 7]])
def test_parts_become_an_array(ending: str, kind: Any, parts: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(rows, 5)).astype(kind) for rows in parts]
    vectors[-1][-1] = np.nan
    names = [f"ö{number}" for number in range(sum(parts))]
    starts = np.cumsum([0, *parts])
    with vector_file(tmp_path / f"out{ending}") as append:
        for start, part in zip(starts, vectors, strict=False):
            append(names[start : start + len(part)], part)
    found = read(tmp_path / f"out{ending}")
    assert found.dtype == kind
    np.testing.assert_array_equal(found, np.concatenate(vectors))
    if ending == ".parquet":
        assert pq.read_table(tmp_path / "out.parquet")["uid"].to_pylist() == names


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
def test_a_file_is_complete_or_absent(ending: str, tmp_path: Path) -> None:
    def write() -> None:
        with vector_file(tmp_path / f"out{ending}") as append:
            for _ in range(3):
                append(["a", "b"], np.ones((2, 3), np.float32))

    (tmp_path / f"out{ending}").write_text("old")
    cut_everywhere(write, tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(RuntimeError), vector_file(tmp_path / f"new{ending}") as append:
        append(["a"], np.ones((1, 3), np.float32))
        raise RuntimeError
    assert set(tmp_path.iterdir()) == before


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out.txt: the name must end in .npy, .parquet, .safetensors"):
        vector_file(tmp_path / "out.txt").__enter__()


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
def test_parts_of_another_kind_are_refused(ending: str, tmp_path: Path) -> None:
    for other in (np.ones((2, 3), np.float64), np.ones((2, 4), np.float32)):
        with pytest.raises(ValueError, match="after others"), vector_file(tmp_path / f"out{ending}") as append:
            append(["a"], np.ones((1, 3), np.float32))
            append(["b", "c"], other)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
def test_the_first_part_may_be_empty(ending: str, tmp_path: Path) -> None:
    with vector_file(tmp_path / f"out{ending}") as append:
        append([], np.ones((0, 3), np.float32))
        append(["a"], np.full((1, 3), 2, np.float32))
    np.testing.assert_array_equal(read(tmp_path / f"out{ending}"), [[2, 2, 2]])
