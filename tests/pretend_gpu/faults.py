"""Steps that are wrong in one way each. The pretend device has to see all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.pretend_gpu.device import DEVICE, Wait, pretend_device

FAULTS: dict[str, Callable[[Tensor], object]] = {
    "two devices": lambda x: x + torch.ones(3, 2),
    "two shapes in lists": lambda x: torch._foreach_add_([x], [torch.ones(3, 3).to(DEVICE)]),
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "a condition": lambda x: 1 if x.sum() > 0 else 0,
    "a copy to the CPU": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "a mask as index": lambda x: x[x > 0],
}


def check_instrument() -> None:
    """Raises AssertionError if the pretend device overlooks a fault, or counts wrongly."""
    linear = nn.Linear(2, 2)
    with pretend_device({}) as recorder:
        linear.to(DEVICE)
        x = torch.ones(3, 2).to(DEVICE)
        for name, fault in 2 * list(FAULTS.items()):  # once more with what is remembered
            try:
                fault(x)
            except (Wait, RuntimeError):
                continue
            raise AssertionError(f"the pretend device does not see {name}")
        recorder.reset()
        (linear(torch.ones(3, 2).to(DEVICE)).t() * 2).sum().backward()
        figures = recorder.figures()
    # Forward: addmm, mul, sum. Backward: ones_like, mul, mm, sum. Views are no operations.
    assert figures == {"operations": 7, "copies": 1, "pageable": 1}, (figures, recorder.operations)
    with pretend_device({"outside of the project": "for this check"}) as recorder:
        assert torch.ones(2, device=DEVICE).sum().item() == 1.0 and recorder.figures()["waits"]
