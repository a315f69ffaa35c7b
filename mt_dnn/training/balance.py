"""Balance between tasks: what the loss of each is multiplied by, beside its own ``loss_weight``."""

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
    """Factors that stay as they are; 1 where there is none."""

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        self.factors = dict(factors or {})

    def factor(self, task: str) -> Tensor | float:
        """What the task's losses are multiplied by."""
        return self.factors.get(task, 1.0)

    def penalty(self, shares: Mapping[str, float]) -> Tensor | float:
        """What an update's loss has beside the losses of its tasks, which have these shares in it."""
        return 0.0

    def update(self, losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> None:
        """An update was made, with these losses: factor times share times mean over the task's examples."""

    def figures(self) -> dict[str, float]:
        """The factors that change, for the log."""
        return {}

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold, as JSON can."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores it."""


class Uncertainty(LossBalance):
    """Σ_t share_t (c_t exp(−s_t) L_t + ½ s_t), s_t = log σ_t², is minimised over s too (Kendall et al. 2018, eq. 10).

    c is ½ for a squared error, the log-likelihood of a normal distribution, and 1 for the others (eq. 7 and 9). So the
    factor c_t exp(−s_t) goes to 1/(2 L_t). s starts at 0 and takes a step of plain gradient descent per update,
    d/ds_t = share_t (½ − c_t exp(−s_t) L_t): in closed form, the same on all ranks. Weight decay does not reach it.
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
    """1/log n for decisions between n options: a guess costs 1 in every task (Aghajanyan et al. 2021, section 3.2).

    n is the mean over the training rows where it differs between them. A regression task has no options and keeps 1.
    """
    options = {name: KINDS[task.task_type].options(task, splits[name]) for name, task in tasks.items()}
    return LossBalance({name: 1 / math.log(n) if n > 1 else 1.0 for name, n in options.items()})


def build_balance(
    name: str, lr: float, tasks: Mapping[str, TaskDef], splits: Mapping[str, Prepared], device: torch.device
) -> LossBalance:
    """The balance of this name between the training tasks.

    Raises:
        UserError: there is nothing to balance.
    """
    if name == "none":
        return LossBalance()
    if len(tasks) == 1:
        raise UserError(f"train.loss_balance: {name} balances several tasks, and there is one; set it to none")
    return log_classes(tasks, splits) if name == "log_classes" else Uncertainty(tasks, lr, device)
