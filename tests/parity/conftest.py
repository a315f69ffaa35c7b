"""Fixtures of the parity tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that the test loads, makes and computes is in double precision.

    Two ways to compute the same then agree far more closely than any mistake, whatever the threads and instructions of
    the machine. The toolkit raises what is sensitive to float32 with ``float()``; here this means float64.
    """
    load: Callable[..., Any] = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def load_double(cls: Any, *arguments: Any, **options: Any) -> Any:
        loaded = load(cls, *arguments, **options)
        (loaded[0] if isinstance(loaded, tuple) else loaded).double()
        return loaded

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(load_double))
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
