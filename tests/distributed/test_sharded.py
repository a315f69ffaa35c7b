"""Tensors split over ranks: gathered, written and read again, whole or in parts, by any number of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mt_dnn.distributed.ranks import is_main, world_size
from mt_dnn.distributed.sharded import as_split, full_tensors, load_sharded, local_parts, save_sharded
from tests.distributed.workers import run_ranks

WHOLE = {  # the third rank gets nothing of the smallest
    "table": torch.arange(35.0).view(7, 5),
    "bias": torch.arange(2.0),
    "table::exp_avg": torch.arange(35.0).view(7, 5) / 7,
    "bias::step": torch.tensor(3.0),
    "lookahead::table": torch.arange(35.0).view(7, 5) + 1,
    "class::AdamW": torch.empty(0),
}


def split(value: Tensor) -> Tensor:
    if value.ndim == 0 or value.numel() == 0:
        return value
    return distribute_tensor(value.clone(), init_device_mesh("cpu", (world_size(),)), [Shard(0)])


def write_and_read(folder: Path) -> None:
    parts = {name: split(value) for name, value in WHOLE.items()}
    (own,) = local_parts([parts["table"]])
    assert len(own) < 7
    all_gather = full_tensors(parts)
    assert not is_main() or all(all_gather[name].equal(value) for name, value in WHOLE.items())
    torch.testing.assert_close(as_split(WHOLE["table"], parts["table"]).to_local(), own)  # type: ignore[attr-defined]
    save_sharded(folder / "state", parts)
    like = {"table": parts["table"], "bias": parts["bias"], "lookahead::table": parts["table"]}
    found = load_sharded(folder / "state", like)
    assert found.keys() == WHOLE.keys()
    assert {name for name, value in found.items() if isinstance(value, DTensor)} == {
        "table",
        "bias",
        "table::exp_avg",
        "lookahead::table",
    }
    back = full_tensors(found)
    assert not is_main() or all(back[name].equal(value) for name, value in WHOLE.items())
    (folder / "file").touch()
    with pytest.raises(OSError, match=r"rank 0: .*file"):
        save_sharded(folder / "file" / "state", parts)


def test_parts_of_three_ranks_are_the_whole_for_one(tmp_path: Path) -> None:
    run_ranks(3, write_and_read, tmp_path)
    assert len(list((tmp_path / "state").iterdir())) >= 2
    found = load_sharded(tmp_path / "state", WHOLE)
    assert found.keys() == WHOLE.keys() and all(found[name].equal(value) for name, value in WHOLE.items())
