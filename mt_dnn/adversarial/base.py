"""The interface between an adversary and the rest: it sees a view of the network and yields losses, nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt
from torch import Tensor
from torch.overrides import TorchFunctionMode

from data_utils.task_def import TaskDef
from mt_dnn.batch import Batch
from mt_dnn.distillation import DistillationConfig, soft_loss
from mt_dnn.draws import Draws
from mt_dnn.losses import DIVERGENCES, LOSSES, Reduction, StopGradient
from mt_dnn.model import Model
from mt_dnn.section import Section
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class View:
    """The network on one batch of B examples, T tokens, N decisions with C options each; mostly N is B.

    ``average`` is the network of averaged weights, where a mode asks for one. ``scale`` multiplies an inner loss
    before it is differentiated (fp16), and divides the gradient. ``parallel`` stands in for ``model.resume`` where
    several ranks train together. ``steps_each_pass``: the weights may change from one loss to the next.
    ``distillation`` says how soft labels count, where the batch has them.
    """

    model: Model
    batch: Batch
    task: TaskDef
    telemetry: Telemetry
    average: Model | None = None
    scale: float = 1.0
    parallel: Callable[[Tensor, int, Batch], Tensor] | None = None
    steps_each_pass: bool = False
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def upto(self, level: int, words: Tensor | None = None) -> Tensor:
        """State at a level, (T, H): 0 = word embeddings, r = output of block r; ``words`` replace the table's."""
        return self.model.upto(level, self.batch, words)

    def resume(self, state: Tensor, level: int) -> Tensor:
        """Logits (N, C) from the state (T, H) at a level; n copies of the state end to end give n copies of logits."""
        copies = len(state) // len(self.batch.input_ids)
        return (self.parallel or self.model.resume)(state, level, self.batch.repeated(copies))

    def averaged_logits(self) -> Tensor:
        """Logits (N, C) of the averaged weights, without dropout and without a graph."""
        assert self.average is not None
        with torch.no_grad():
            return self.average(self.batch)

    def loss(self, logits: Tensor, labels: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
        """The task's loss for its own labels, hard and soft, or for others (N,).

        The mean over decisions; ``none``: per example, (B,).
        """
        value = LOSSES[self.task.loss](logits, self.labels if labels is None else labels, reduction=reduction)
        weight, temperature = self.distillation.weight, self.distillation.temperature
        if labels is None and weight and self.batch.soft is not None:
            divergence = DIVERGENCES[self.task.kd_loss]
            soft = soft_loss(logits, self.batch.soft, divergence, temperature=temperature, reduction=reduction)
            value = (1 - weight) * value + weight * soft
        return value if reduction == "mean" else self.batch.example_means(value)

    @cached_property
    def draws(self) -> Draws:
        """The random numbers of this batch."""
        return Draws(self.batch)

    @property
    def labels(self) -> Tensor:
        """(N,)"""
        assert self.batch.labels is not None  # a training batch
        return self.batch.labels

    def divergence(
        self,
        clean: Tensor,
        perturbed: Tensor,
        *,
        name: str | None = None,
        stop_gradient: StopGradient = "target",
        reduction: Reduction = "mean",
    ) -> Tensor:
        """``name`` between two logits (N, C); by default, and for regression always, the task's own ``adv_loss``.

        The mean over decisions; ``none``: per example, (B,).
        """
        own = name is None or self.task.task_type == "regression"
        function = DIVERGENCES[self.task.adv_loss if own else name]  # type: ignore[index]
        value = function(clean, perturbed, stop_gradient=stop_gradient, reduction=reduction)
        return value if reduction == "mean" else self.batch.example_means(value)

    def gradient(self, loss: Tensor, of: Tensor, *, keep_graph: bool = False) -> Tensor:
        """∂loss/∂of in float32 and nothing else: no gradient of any weight is computed."""
        with torch.autocast(of.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(loss * self.scale, of, retain_graph=keep_graph)
        return gradient.float() / self.scale

    def report(self, name: str, value: Tensor) -> None:
        """A figure of this batch for the log: a mean over its decisions, or one figure per example, (B,)."""
        weight = self.batch.counted if value.dim() else self.batch.weight
        self.telemetry.mean(name, value.detach().float().mean(), weight)

    def count(self, name: str, value: Tensor) -> None:
        """A number of cases for the log."""
        self.telemetry.total(name, value if self.batch.counted else value * 0)


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


class Replay:
    """Passes within it have the dropout masks of the first one (FreeLB, section 3.3), as far as they go alike.

    The generators are set back to where they stood when it was made. On a CPU, where drawing a mask takes a good part
    of a pass, masks are kept besides; they outlive the pass, so not where activations are recomputed to save memory.
    """

    def __init__(self, network: View, *, enabled: bool = True) -> None:
        self.device, self.enabled = network.batch.input_ids.device, enabled
        self.cpu = torch.get_rng_state()
        self.accelerator = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        keeps = enabled and self.device.type == "cpu" and network.model.encoder.runs_as_written
        self.masks = KeptMasks() if keeps else None

    def __enter__(self) -> None:
        if self.enabled:
            torch.set_rng_state(self.cpu)
            if self.accelerator is not None:
                torch.cuda.set_rng_state(self.accelerator, self.device)
        if self.masks is not None:
            self.masks.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.masks is not None:
            self.masks.__exit__(*error)


class KeptMasks(TorchFunctionMode):
    """Within it the n-th dropout has the n-th mask, drawn once; the generator moves on as if it were drawn again."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[Tensor, Tensor]] = []  # a mask, and the generator's state after it

    def __enter__(self) -> KeptMasks:
        self.unused = iter(list(self.drawn))
        return super().__enter__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is F.dropout:
            return self._dropout(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _dropout(self, value: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not 0 < p < 1:
            return F.dropout(value, p, training, inplace)
        kept = next(self.unused, None)
        if kept is None:
            mask = torch.empty_like(value, requires_grad=False).bernoulli_(1 - p).div_(1 - p)
            self.drawn.append((mask, torch.get_rng_state()))
        else:
            mask, state = kept
            assert mask.shape == value.shape  # passes that went another way would get each other's masks
            torch.set_rng_state(state)
        return value.mul_(mask) if inplace else value * mask


DivergenceName = Literal["kl", "sym_kl", "js", "hellinger"]
Scope = Literal["token", "sentence"]
