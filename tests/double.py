"""Double precision for parity tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel


@contextmanager
def in_double_precision(kept: dict[str, Any] | None = None) -> Iterator[None]:
    """Everything that is loaded, made and computed in the context is in double precision.

    Two ways to compute the same then agree far more closely than any mistake, whatever the threads and instructions of
    the machine. The toolkit raises what is sensitive to float32 with ``float()``; here this means float64.

    ``kept``: models that were loaded before, by what was asked for. They are copied, and new ones are added.
    """
    load: Callable[..., Any] = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def load_double(cls: Any, *arguments: Any, **options: Any) -> Any:
        asked = f"{cls} {arguments} {options}"
        if kept is not None and asked in kept:
            return deepcopy(kept[asked])
        before = torch.get_rng_state()
        loaded = load(cls, *arguments, **options)
        (loaded[0] if isinstance(loaded, tuple) else loaded).double()
        if kept is not None and torch.get_rng_state().equal(before):  # or a copy would leave other random numbers
            kept[asked] = deepcopy(loaded)
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedModel, "from_pretrained", classmethod(load_double))
        patch.setattr(Tensor, "float", Tensor.double)
        # Tests of numbers run on the CPU. For a GPU to come, each seed would be kept with a written stack.
        patch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)
