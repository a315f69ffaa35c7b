"""Number types of forward passes, and the scale of losses in fp16."""

from __future__ import annotations

from typing import Any

import torch
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer

AUTOCAST_TYPES = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# What torch calls the units of Intel's, AMD's and ARM's processors that multiply matrices of 16-bit numbers.
UNITS = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "amx_fp16", "fp16_arith")}


def autocast(precision: str, device: torch.device, *, keeps_casts: bool = True) -> torch.autocast:
    """A context in which forward passes run in this precision. The weights stay in float32.

    With ``tf32`` a GPU multiplies matrices with 10 bits behind the point, in backward passes too. This call turns that
    on or off for all that follows.
    ``keeps_casts``: keep the weights in 16 bits as long as the context is open, so that they are converted once.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = AUTOCAST_TYPES[precision]
    enabled = dtype is not None
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=enabled, cache_enabled=keeps_casts)


def lacks_units(precision: str, device: torch.device) -> bool:
    """Whether this precision is slow here: the device is a CPU without units for it. False if torch does not know."""
    if device.type != "cpu" or precision not in UNITS or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return not any(has.get(unit) for unit in UNITS[precision])


class LossScaler(torch.amp.GradScaler):
    """Multiplies losses in fp16, so that small gradients do not become 0.

    Like torch's GradScaler, but the process waits for the device once per optimizer step, for the overflow.

    The scale follows from the overflows, so it is kept as a number too. With ``enabled=False`` nothing is scaled.
    """

    def __init__(self, device: str, *, enabled: bool) -> None:
        super().__init__(device, enabled=enabled)
        self._number, self._good_steps, self._overflowed = super().get_scale(), 0, False

    def get_scale(self) -> float:
        """The present scale; 1 if disabled."""
        return self._number

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Makes an optimizer step, unless a gradient overflowed. Call ``unscale_`` before."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        state = self._per_optimizer_states[id(optimizer)]
        self._overflowed = any(bool(found) for found in state["found_inf_per_device"].values())
        state["stage"] = OptState.STEPPED
        return None if self._overflowed else optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Lowers the scale after an overflow, and raises it after many steps without one."""
        super().update(new_scale)
        if not self._enabled:
            return
        self._good_steps = 0 if self._overflowed else self._good_steps + 1
        if self._overflowed:
            self._number *= self.get_backoff_factor()
        elif self._good_steps == self.get_growth_interval():
            self._number, self._good_steps = self._number * self.get_growth_factor(), 0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self._enabled:
            self._number, self._good_steps = float(state_dict["scale"]), int(state_dict["_growth_tracker"])


def loss_scaler(precision: str, device: torch.device) -> LossScaler:
    """Scales losses in fp16, and does nothing in other precisions."""
    return LossScaler(device.type, enabled=precision == "fp16")
