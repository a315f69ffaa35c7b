"""Gradient surgery: changes the gradients of several tasks before they are added."""

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
    """Projects the gradient g_i of each task where it conflicts with others, then adds (Yu et al. 2020, algorithm 1).

    For the other tasks j in random order: g_i ← g_i − (g_i·g_j / ‖g_j‖²) g_j where g_i·g_j < 0. The result is a
    weighted sum of the original g_i; TorchJD finds its weights from their inner products. Only parameters that have
    gradients from several tasks of an update are part of g_i. The others, such as heads, keep their gradients.

    Call ``store_gradients`` after the backward passes of each task, then ``set_gradients`` once.

    Raises:
        UserError: TorchJD is not installed.
    """

    def __init__(self) -> None:
        try:
            from torchjd.aggregation import PCGradWeighting
        except ModuleNotFoundError:
            raise UserError(
                "train.gradient_surgery: pcgrad needs one more package. Install it with: pip install 'mt-dnn[pcgrad]'"
            ) from None
        self.weights: Callable[[Tensor], Tensor] = PCGradWeighting()
        self.gradients: list[dict[nn.Parameter, Tensor]] = []  # one entry per task

    def store_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Stores the gradients of one task and clears them. They are already summed over ranks."""
        # Copies, because DistributedDataParallel keeps gradients in buffers that the next backward pass overwrites.
        self.gradients.append({p: p.grad.clone() for p in parameters if p.grad is not None})
        for parameter in parameters:
            parameter.grad = None

    def set_gradients(self, seed: int) -> None:
        """Sets the gradient of each parameter to the sum of the projected gradients of the tasks.

        Args:
            seed: decides the random orders. It has to be the same on all ranks.
        """
        gradients, self.gradients = self.gradients, []
        users: dict[nn.Parameter, list[int]] = {}
        for task, gradients_of_task in enumerate(gradients):
            for parameter in gradients_of_task:
                users.setdefault(parameter, []).append(task)
        shared = [parameter for parameter, tasks in users.items() if len(tasks) > 1]
        weights = [1.0] * len(gradients)
        if shared:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                weights = self.weights(inner_products(gradients, shared).cpu()).tolist()
        for parameter, tasks in users.items():
            if len(tasks) == 1:
                parameter.grad = gradients[tasks[0]][parameter]
            else:
                weighted = (gradients[task][parameter] * weights[task] for task in tasks)
                parameter.grad = reduce(torch.add, weighted)


def inner_products(gradients: Sequence[dict[nn.Parameter, Tensor]], shared: Sequence[nn.Parameter]) -> Tensor:
    """g_i·g_j of all pairs of tasks, (tasks, tasks), over the parameters ``shared``, added up in double precision.

    If each rank holds a part of the weights, the products of all ranks are added up.
    """
    products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64, device=shared[0].device)
    indices: dict[tuple[int, ...], Tensor] = {}  # each is copied to the device once
    for parameter in shared:
        tasks = tuple(task for task, gradients_of_task in enumerate(gradients) if parameter in gradients_of_task)
        rows = torch.stack([part.flatten() for part in local_parts(gradients[task][parameter] for task in tasks)])
        if tasks not in indices:
            indices[tasks] = torch.tensor(tasks).to(rows.device)
        index = indices[tasks]
        products[index[:, None], index] += (rows @ rows.T).double()
    return all_reduce_sum(products) if isinstance(shared[0], DTensor) else products


def build_surgery(name: str, adversaries: Mapping[str, Adversary[Any]]) -> PCGrad | None:
    """Builds the gradient surgery of this name. ``none`` gives None.

    ``adversaries``: one for each training task.

    Raises:
        UserError: there is only one task, a mode makes several optimizer steps per update, or a package is not
            installed.
    """
    if name == "none":
        return None
    key = f"train.gradient_surgery: {name}"
    if len(adversaries) == 1:
        raise UserError(f"{key} needs several training tasks, and there is one; set it to none")
    for adversary in adversaries.values():
        if adversary.steps_each_pass:
            mode = adversary.options.mode
            raise UserError(f"{key} needs one optimizer step per update, {mode} makes several; set it to none")
    return PCGrad()
