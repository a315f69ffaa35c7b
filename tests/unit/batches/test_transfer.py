"""All tensors of a batch travel in one, and come out as they went in."""

from __future__ import annotations

import torch

from mt_dnn.batches.transfer import ALIGNMENT, packed, unpacked


def test_tensors_come_out_as_they_went_in() -> None:
    tensors = {
        "ids": torch.arange(7),
        "answerable": torch.tensor([True, False, True]),
        "text_numbers": torch.tensor([-1, 0, 1], dtype=torch.int8),
        "soft": torch.rand(3, 4),
        "labels": torch.rand(5, dtype=torch.float64),
        "nothing": torch.zeros(0, dtype=torch.int64),
        "scalar": torch.tensor(3.5),
    }
    buffer = packed(tensors)
    found = unpacked(buffer, tensors)
    assert found.keys() == tensors.keys() and len(buffer) % ALIGNMENT == 0
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype and found[name].equal(value)
        assert found[name].untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
        assert found[name].storage_offset() * value.itemsize % ALIGNMENT == 0
