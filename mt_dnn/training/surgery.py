"""Gradient surgery: what the gradients of several tasks become before they are added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from data_utils.errors import UserError
from mt_dnn.adversarial.base import Adversary
from mt_dnn.distributed.ranks import all_reduce_sum
from mt_dnn.distributed.sharded import local_parts


class PCGrad:
    """Σ_i g_i after each g_i has lost what points against the others (Yu et al. 2020, algorithm 1).

    For the other tasks j in random order: g_i ← g_i − (g_i·g_j / ‖g_j‖²) g_j where g_i·g_j < 0. What comes out is a
    weighted sum of the g_i; TorchJD finds its weights from their inner products. g_i holds the weights that several
    tasks of an update have a gradient of. What one of them has to itself, such as its head, keeps its gradient.
    """

    def __init__(self) -> None:
        try:
            from torchjd.aggregation import PCGradWeighting
        except ModuleNotFoundError:
            raise UserError(
                "train.gradient_surgery: pcgrad needs a package more: pip install 'mt-dnn[pcgrad]'"
            ) from None
        self.weights: Callable[[Tensor], Tensor] = PCGradWeighting()
        self.gradients: list[dict[nn.Parameter, Tensor]] = []  # of each task

    def take(self, parameters: Sequence[nn.Parameter]) -> None:
        """Takes the gradients of a task away from the parameters, after ranks have synchronised them."""
        # A copy: those of DistributedDataParallel are parts of buffers that the next backward pass fills.
        self.gradients.append({p: p.grad.clone() for p in parameters if p.grad is not None})
        for parameter in parameters:
            parameter.grad = None

    def give(self, seed: int) -> None:
        """Gives the parameters the sum over the tasks; ``seed`` is that of the random order, on all ranks the same."""
        gradients, self.gradients = self.gradients, []
        users: dict[nn.Parameter, list[int]] = {}
        for task, own in enumerate(gradients):
            for parameter in own:
                users.setdefault(parameter, []).append(task)
        shared = [parameter for parameter, tasks in users.items() if len(tasks) > 1]
        weights = [1.0] * len(gradients)
        if shared:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                weights = self.weights(inner_products(gradients, shared)).tolist()
        for parameter, tasks in users.items():
            if len(tasks) == 1:
                parameter.grad = gradients[tasks[0]][parameter]
            else:
                parts = (gradients[task][parameter] * weights[task] for task in tasks)
                parameter.grad = reduce(torch.add, parts)


def inner_products(gradients: Sequence[dict[nn.Parameter, Tensor]], shared: Sequence[nn.Parameter]) -> Tensor:
    """g_i·g_j of all pairs of tasks, (tasks, tasks), summed over these parameters; of split ones over all ranks."""
    products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64, device=shared[0].device)
    for parameter in shared:
        there = [task for task, own in enumerate(gradients) if parameter in own]
        rows = torch.stack([part.flatten() for part in local_parts(gradients[task][parameter] for task in there)])
        index = torch.tensor(there, device=rows.device)
        products[index[:, None], index] += (rows @ rows.T).double()
    return all_reduce_sum(products) if isinstance(shared[0], DTensor) else products


def build_surgery(name: str, adversaries: Mapping[str, Adversary[Any]]) -> PCGrad | None:
    """The surgery of this name on the gradients of the training tasks, if any.

    Raises:
        UserError: a task alone, a mode that has no gradient of the whole update, or a package that is not installed.
    """
    if name == "none":
        return None
    key = f"train.gradient_surgery: {name}"
    if len(adversaries) == 1:
        raise UserError(f"{key} is between several tasks, and there is one; set it to none")
    for adversary in adversaries.values():
        if adversary.steps_each_pass:
            mode = adversary.options.mode
            raise UserError(f"{key} needs one optimizer step per update, {mode} makes several; set it to none")
    return PCGrad()
