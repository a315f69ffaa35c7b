"""What every adversarial mode has: settings, and a generator of losses that uses the network through a ``View``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.view import View
from mt_dnn.encoders.encoder import EMBEDDINGS, Level
from mt_dnn.section import NonNegativeInt, Section
from mt_dnn.tasks.model import Model


def _above_zero(radius: float | None) -> float | None:
    """Refuses a radius that would leave no perturbation. Public FreeLB scripts mean "no bound" by 0 and by -1."""
    if radius is not None and not radius > 0:
        raise ValueError("a bound has to be above 0; write null for no bound, or mode: none for plain training")
    return radius


Radius = Annotated[float | None, AfterValidator(_above_zero)]
DivergenceName = Literal["kl", "sym_kl", "js", "hellinger"]
LevelName = Literal["words", "embeddings"]
MEASURES = "kl, sym_kl (kl in both directions, added up), js (Jensen-Shannon) or hellinger"
REGRESSION = "a regression task always has the squared difference"
STOP_GRADIENT = (
    "which outputs the divergence trains, of the two that it compares. none: both; target: the second only, towards "
    "the first, but sym_kl has a term for each direction, so it trains both; kl_target: as target, but the squared "
    "difference of a regression task trains both"
)
LEVELS: Mapping[LevelName, Level] = {"words": 0, "embeddings": EMBEDDINGS}


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
    """One mode on one task. A call with a view of a batch yields the losses of this batch.

    The caller runs ``backward()`` on each loss before it asks for the next.

    ``options_type``: the class of the mode's settings.
    ``steps_each_pass``: an optimizer step follows each loss, not only the last one.
    ``changes_head``: the mode changes the head, so tasks that share a head must all use the mode or none of them.
    """

    options_type: ClassVar[type[Options]]
    steps_each_pass: ClassVar[bool] = False
    changes_head: ClassVar[bool] = False

    def __init__(self, options: OptionsT, task: TaskDef) -> None:
        self.options, self.task = options, task

    @property
    def passes(self) -> int:
        """The number of losses that the mode yields for a batch."""
        return 1

    def cost_floor(self, blocks: float) -> float:
        """The least cost of a step, as a multiple of a plain step, in an encoder with so many blocks.

        Only arithmetic counts: a backward pass costs two forward passes, a gradient of the perturbation alone one. A
        last block that computes first tokens only counts as the part of a block that it is.
        """
        return float(self.passes)

    @abstractmethod
    def __call__(self, network: View) -> Iterator[Tensor]:
        """Yields the losses of a batch, each a scalar."""

    def measure_dropout_floor(self, network: View) -> None:
        """Reports ``dropout_floor``, the regulariser at δ = 0, and beside it ``measured_regularizer``.

        A mode without a regulariser reports nothing.
        """

    @classmethod
    def prepare(cls, options: Any, model: Model, task: str) -> None:
        """Checks a new model or changes its head for the task, before weights are loaded or trained.

        Raises:
            UserError: the mode does not work with this model.
        """

    def end_epoch(self) -> None:
        """Does what the mode needs at the end of an epoch. Every rank calls it."""

    def collect(self) -> None:
        """Adds up the counts of all ranks on the main rank. Every rank calls it before a checkpoint is saved."""

    def state_dict(self) -> dict[str, Any]:
        """The state that the mode needs after a restart, as JSON values. It is complete on the main rank."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""

    def record(self) -> dict[str, Any] | None:
        """The record that the run folder keeps for each epoch, as JSON values; None: no record."""
        return None


class Regularized(Adversary[OptionsT]):
    """A mode whose loss has a regulariser: a divergence between the outputs of two passes.

    Its settings have the keys ``divergence`` and ``stop_gradient``.
    """

    def regularizer(self, network: View, clean: Tensor, perturbed: Tensor) -> Tensor:
        """l_s(f(x), f(x + δ)), a scalar, from two tensors of logits, each (N, C)."""
        options: Any = self.options
        return network.divergence(clean, perturbed, name=options.divergence, stop_gradient=options.stop_gradient)

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the two passes that the regulariser compares, both at δ = 0.

        The two passes share dropout masks if the passes of the mode share them in training.
        """
        return network.resume(network.upto(0), 0), network.resume(network.upto(0), 0)

    @torch.no_grad()
    def measure_dropout_floor(self, network: View) -> None:
        """Reports the regulariser at δ = 0, the part that dropout masks alone cause.

        Beside it, the regulariser of the same batch: the mean over a run is of other updates, and the regulariser grows
        while a model learns. Reports nothing if the mode has reported no regulariser for this batch.
        """
        if "regularizer" not in network.telemetry.sums:
            return
        device = network.batch.input_ids.device
        buffers = [(buffer, buffer.clone()) for buffer in network.model.heads.buffers()]  # of r4f
        fresh = replace(network, parallel_resume=None)  # its random numbers start from the batch's first one again
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            floor = self.regularizer(fresh, *self.clean_passes(fresh))
        network.report_loss("dropout_floor", floor)
        network.telemetry.repeat("regularizer", "measured_regularizer")
        for buffer, before in buffers:
            buffer.copy_(before)
