"""The interface between an adversary and the rest: it sees a view of the network and yields losses, nothing else."""

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


class Options(Section):
    """What every mode can be told."""

    mode: str
    warm_start_steps: NonNegativeInt = Field(0, description="updates of plain training before the mode sets in")
    tasks: dict[str, Any] = Field(
        default_factory=dict,
        description="other settings for single tasks, as `tasks.rte.radius`; `tasks.rte.mode: none` leaves one out",
    )


OptionsT = TypeVar("OptionsT", bound=Options)


class Adversary(ABC, Generic[OptionsT]):
    """One mode on one task: a generator of losses, and what it remembers between batches.

    The caller runs ``backward()`` on each of the ``passes`` losses before it asks for the next; ``steps_each_pass``:
    it makes an optimizer step after each of them, not one after all. ``changes_head``: the task's head is another one.
    """

    options_type: ClassVar[type[Options]]
    steps_each_pass: ClassVar[bool] = False
    changes_head: ClassVar[bool] = False

    def __init__(self, options: OptionsT, task: TaskDef) -> None:
        self.options, self.task = options, task

    @property
    def passes(self) -> int:
        """How many losses there are for a batch."""
        return 1

    def cost_floor(self, blocks: int) -> float:
        """Multiple of a plain step that arithmetic asks for, in an encoder of so many blocks.

        A backward pass counts as two forward passes, a gradient to the perturbation alone as one.
        """
        return float(self.passes)

    @abstractmethod
    def __call__(self, network: View) -> Iterator[Tensor]:
        """The losses of a batch."""

    def measure_dropout_floor(self, network: View) -> None:
        """Reports ``dropout_floor``, where the mode has reported a regulariser for this batch; changes nothing else."""

    @classmethod
    def prepare(cls, options: Any, model: Model, task: str) -> None:
        """Checks a new model, or changes the task's head, before weights are loaded or trained.

        Raises:
            UserError: the mode cannot be had with this model.
        """

    def end_epoch(self) -> None:
        """An epoch has ended; on every rank."""

    def collect(self) -> None:
        """Brings what the ranks have gathered to the main one; on every rank, before a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold, as JSON can; on the main rank."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores it."""

    def record(self) -> dict[str, Any] | None:
        """What stands in the run folder after each epoch, if anything."""
        return None


class Regularized(Adversary[OptionsT]):
    """A mode with a weighted divergence between two outputs; options ``divergence`` and ``stop_gradient``."""

    def regularizer(self, network: View, clean: Tensor, perturbed: Tensor) -> Tensor:
        """l_s(f(x), f(x + δ)), both logits (N, C); a scalar."""
        options: Any = self.options
        return network.divergence(clean, perturbed, name=options.divergence, stop_gradient=options.stop_gradient)

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the two passes that the regulariser compares, both at δ = 0: only masks may differ."""
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


DivergenceName = Literal["kl", "sym_kl", "js", "hellinger"]


Scope = Literal["token", "sentence"]
