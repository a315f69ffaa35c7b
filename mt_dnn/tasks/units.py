"""Units: the numbers that a head says, and the numbers that the user reads and writes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from data_utils.task_def import TaskDef

HIGHEST = 5.0  # a value range is trained as 0 to 5, the range of STS-B


class NoUnits:
    """The units of a head whose outputs are not numbers of the user: nothing is converted."""

    squared = 1.0

    def to_head(self, values: Tensor) -> Tensor:
        return values

    def to_user(self, outputs: Tensor) -> Tensor:
        return outputs


class Units(nn.Module):
    """The user's number is y = offset + spread · z, where z is the output of a head. New units leave y = z.

    A head is trained on z, because it learns numbers near 0 only: its learning rate does not know the size of y.
    y is kept in float64: in float32, numbers that lie close together far from 0 would be equal.
    """

    offset: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def fit(self, task: TaskDef, labels: np.ndarray) -> None:
        """Maps the task's value range onto 0 to 5. Without a range, z has mean 0 and standard deviation 1.

        ``labels``: the labels of all training rows, (N,). If they are all equal, only their mean is subtracted.
        """
        if task.value_range is None:
            values = labels.astype(np.float64)
            offset, spread = values.mean(), values.std() if np.ptp(values) else 1.0
        else:
            offset, high = task.value_range
            spread = (high - offset) / HIGHEST
        self.offset.fill_(float(offset))
        self.spread.fill_(float(spread))

    @property
    def squared(self) -> Tensor:
        """How many times larger a squared error is in the user's units, a float32 scalar, as losses are."""
        return self.spread.square().float()

    def to_head(self, values: Tensor) -> Tensor:
        """y → z in float32, in any shape."""
        return ((values.double() - self.offset) / self.spread).float()

    def to_user(self, outputs: Tensor) -> Tensor:
        """z → y in float64, in any shape."""
        return self.offset + self.spread * outputs.double()


def new_units(model: nn.Module) -> dict[str, Tensor]:
    """The buffers of new units, by name, for every head of a model that has units.

    Checkpoints from before there were units lack them. Their heads were trained on the user's numbers.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, Units)]
    return {f"{name}.{key}": value for name in names for key, value in Units().state_dict().items()}
