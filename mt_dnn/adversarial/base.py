"""What every adversarial mode has: settings, and a generator of losses that sees the network through a ``View``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.view import View
from mt_dnn.section import Section
from mt_dnn.tasks.model import Model

DivergenceName = Literal["kl", "sym_kl", "js", "hellinger"]


class Options(Section):
    """Settings that every mode has."""

    mode: str
    warm_start_steps: NonNegativeInt = Field(0, description="updates of plain training before the mode sets in")
    tasks: dict[str, Any] = Field(
        default_factory=dict,
        description="other settings for single tasks, as `tasks.rte.radius`; `tasks.rte.mode: none` leaves one out",
    )


OptionsT = TypeVar("OptionsT", bound=Options)


class Adversary(ABC, Generic[OptionsT]):
    """One mode on one task. Called with a view of a batch, it yields the losses of that batch.

    The caller runs ``backward()`` on each loss before it asks for the next.

    ``options_type``: the class of the mode's settings.
    ``steps_each_pass``: an optimizer step follows each loss, not only the last one.
    ``changes_head``: the mode needs a head of its kind, so tasks that share a head all have it or none has.
    """

    options_type: ClassVar[type[Options]]
    steps_each_pass: ClassVar[bool] = False
    changes_head: ClassVar[bool] = False

    def __init__(self, options: OptionsT, task: TaskDef) -> None:
        self.options, self.task = options, task

    @property
    def passes(self) -> int:
        """The number of losses that a batch has."""
        return 1

    def cost_floor(self, blocks: int) -> float:
        """The least cost of a step, as a multiple of a plain step, in an encoder with so many blocks.

        Only arithmetic counts: a backward pass is two forward passes, a gradient of the perturbation alone is one.
        """
        return float(self.passes)

    @abstractmethod
    def __call__(self, network: View) -> Iterator[Tensor]:
        """Yields the losses of a batch, each a scalar."""

    def measure_dropout_floor(self, network: View) -> None:
        """Reports ``dropout_floor``, where the mode has reported a regulariser for this batch; changes nothing else."""

    @classmethod
    def prepare(cls, options: Any, model: Model, task: str) -> None:
        """Checks a new model or changes its head for the task, before weights are loaded or trained.

        Raises:
            UserError: the mode does not work with this model.
        """

    def end_epoch(self) -> None:
        """Called on every rank at the end of an epoch."""

    def collect(self) -> None:
        """Adds up on the main rank what the ranks have counted. Called on every rank before a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What the mode has to find again after a restart, as JSON values. Called on the main rank."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""

    def record(self) -> dict[str, Any] | None:
        """What the run folder holds for each epoch, as JSON values; None for nothing."""
        return None


class Regularized(Adversary[OptionsT]):
    """A mode whose loss has a regulariser: a divergence between the outputs of two passes.

    Its settings have the keys ``divergence`` and ``stop_gradient``.
    """

    def regularizer(self, network: View, clean: Tensor, perturbed: Tensor) -> Tensor:
        """l_s(f(x), f(x + δ)), a scalar, from two logits (N, C)."""
        options: Any = self.options
        return network.divergence(clean, perturbed, name=options.divergence, stop_gradient=options.stop_gradient)

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the two passes that the regulariser compares, both at δ = 0.

        They have the same or different dropout masks, as the passes of the mode have in training.
        """
        return network.resume(network.upto(0), 0), network.resume(network.upto(0), 0)

    @torch.no_grad()
    def measure_dropout_floor(self, network: View) -> None:
        """Reports the regulariser at δ = 0: the part of it that dropout masks alone account for."""
        if "regularizer" not in network.telemetry.sums:
            return
        device = network.batch.input_ids.device
        buffers = [(buffer, buffer.clone()) for buffer in network.model.heads.buffers()]  # of power iterations
        fresh = replace(network, parallel=None)  # its random draws are the batch's first ones again
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            floor = self.regularizer(fresh, *self.clean_passes(fresh))
        network.report("dropout_floor", floor)
        for buffer, before in buffers:
            buffer.copy_(before)
