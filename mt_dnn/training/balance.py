"""Balance between tasks: a factor on the losses of each task, besides its ``loss_weight``."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.distributed.ranks import all_reduce_sum, world_size
from mt_dnn.tasks.kinds import KINDS


class LossBalance:
    """Holds a fixed factor for each task. A task without one has factor 1."""

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        self.factors = dict(factors or {})

    def factor(self, task: str) -> Tensor | float:
        """The factor on the losses of a task, a scalar."""
        return self.factors.get(task, 1.0)

    def penalty(self, shares: Mapping[str, float]) -> Tensor | float:
        """A scalar added to the logged loss of an update. It has no backward pass. ``shares``: see ``update``."""
        return 0.0

    def update(self, losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> None:
        """Learns from an update that was made. Both arguments are by task.

        Args:
            losses: what each task has added to the loss of the update: share · factor · mean over its examples.
            shares: ``loss_weight`` times the task's share of the update's examples.
        """

    def figures(self) -> dict[str, float]:
        """The factors by task, for the log; empty if they never change."""
        return {}

    def state_dict(self) -> dict[str, float]:
        """The state that a checkpoint has to hold, as JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores what ``state_dict`` returned."""


class Uncertainty(LossBalance):
    """Minimises Σ_t share_t (c_t exp(−s_t) L_t + ½ s_t) over s_t = log σ_t² too (Kendall et al. 2018, eq. 10).

    c is ½ for a squared error, which is the log-likelihood of a normal distribution, and 1 for other losses (eq. 7
    and 9). So the factor c_t exp(−s_t) goes to 1/(2 L_t). s starts at 0 and takes one step of plain gradient descent
    per update. Its gradient share_t (½ − c_t exp(−s_t) L_t) is computed in closed form, over all ranks. s has no weight
    decay.
    """

    def __init__(self, tasks: Mapping[str, TaskDef], lr: float, device: torch.device) -> None:
        super().__init__({name: 0.5 if task.loss == "mse" else 1.0 for name, task in tasks.items()})
        self.lr = lr
        self.log_variances = {name: torch.zeros((), device=device) for name in tasks}

    def factor(self, task: str) -> Tensor | float:
        return self.factors[task] * torch.exp(-self.log_variances[task])

    def penalty(self, shares: Mapping[str, float]) -> Tensor | float:
        return sum(0.5 * share * self.log_variances[task] for task, share in shares.items())

    def update(self, losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> None:
        means = all_reduce_sum(torch.stack(list(losses.values()))) / world_size()
        for task, loss in zip(losses, means, strict=True):
            self.log_variances[task] = self.log_variances[task] - self.lr * (0.5 * shares[task] - loss)

    def figures(self) -> dict[str, float]:
        return {task: float(self.factor(task)) for task in self.log_variances}

    def state_dict(self) -> dict[str, float]:
        return {task: value.item() for task, value in self.log_variances.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        for task, value in self.log_variances.items():
            self.log_variances[task] = torch.full_like(value, state[task])


def log_classes(tasks: Mapping[str, TaskDef], splits: Mapping[str, Prepared]) -> LossBalance:
    """Factors 1/log n for a task with n options, so that a random guess has loss 1 in every task.

    If n differs between training rows, the mean of n is used. A regression task has factor 1. Source: Aghajanyan et al.
    2021, section 3.2.
    """
    options = {name: KINDS[task.task_type].options(task, splits[name]) for name, task in tasks.items()}
    return LossBalance({name: 1 / math.log(n) if n > 1 else 1.0 for name, n in options.items()})


def build_balance(
    name: str, lr: float, tasks: Mapping[str, TaskDef], splits: Mapping[str, Prepared], device: torch.device
) -> LossBalance:
    """Builds the balance between the training tasks: ``none``, ``log_classes`` or ``uncertainty``.

    Args:
        lr: the step size of s in ``Uncertainty``.
        splits: the training rows by task.

    Raises:
        UserError: ``name`` is not ``none``, but there is only one task.
    """
    if name == "none":
        return LossBalance()
    if len(tasks) == 1:
        raise UserError(f"train.loss_balance: {name} needs several training tasks, and there is one; set it to none")
    return log_classes(tasks, splits) if name == "log_classes" else Uncertainty(tasks, lr, device)
