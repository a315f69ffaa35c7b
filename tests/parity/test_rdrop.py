"""R-Drop's presets against the paper and the released code, in float64: loss, and gradients of both outputs.

Each reference is a factor times the loss of the mode at some weight; rdrop.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.presets import read_preset
from mt_dnn.adversarial.rdrop import RDrop, RDropOptions
from mt_dnn.adversarial.view import View
from mt_dnn.tasks.units import NoUnits
from mt_dnn.telemetry import Telemetry
from tests.parity.test_adversaries import GOLD, TASKS, make_batch

BATCH = 3
CLASSES, SCORES = TASKS["classes"], TASKS["scores"]


@dataclass(frozen=True)
class TwoOutputs(View):
    """A network that gives these two outputs, one for each dropout mask."""

    outputs: tuple[Tensor, ...] = ()

    @property
    def units(self) -> NoUnits:
        return NoUnits()

    def upto(self, level: Any, words: Tensor | None = None) -> Tensor:
        return self.outputs[0]

    def resume(self, state: Tensor, level: Any, *, trains: bool = True) -> Tensor:
        return torch.cat(self.outputs)


def kl_both_ways(z: Tensor, z2: Tensor) -> Tensor:
    """KL(p‖q) + KL(q‖p) of each example, (B,)."""
    p, q = z.softmax(1), z2.softmax(1)
    return (p * (p / q).log() + q * (q / p).log()).sum(1)


def paper(z: Tensor, z2: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Liang et al. 2021, eq. 4: −log p₁ − log p₂ + α/2 (KL + KL); the mean over examples."""
    log_likelihoods = sum(torch.log_softmax(logits, 1)[range(BATCH), y] for logits in (z, z2))
    return (-log_likelihoods + alpha / 2 * kl_both_ways(z, z2)).mean()


def of_glue(z: Tensor, z2: Tensor, y: Tensor) -> Tensor:
    """huggingface_transformer_src: two mean cross-entropies, and ½ · (ΣKL + ΣKL)/2 summed over the batch."""
    return F.cross_entropy(z, y) + F.cross_entropy(z2, y) + 0.5 * kl_both_ways(z, z2).sum() / 2


def of_glue_values(z: Tensor, z2: Tensor, y: Tensor) -> Tensor:
    """The same for a value: three mean squared errors."""
    return F.mse_loss(z[:, 0], y) + F.mse_loss(z2[:, 0], y) + F.mse_loss(z[:, 0], z2[:, 0])


def of_roberta_large(z: Tensor, z2: Tensor, y: Tensor, alpha: float) -> Tensor:
    """fairseq_src/examples/roberta: all terms summed over the batch, then divided by its size."""
    cross_entropies = F.cross_entropy(z, y, reduction="sum") + F.cross_entropy(z2, y, reduction="sum")
    return (cross_entropies + alpha * kl_both_ways(z, z2).sum() / 2) / BATCH


def of_its_readme(z: Tensor, z2: Tensor, y: Tensor, alpha: float) -> Tensor:
    """The example in the README of the released code: half of both losses, KL summed over the batch."""
    return 0.5 * (F.cross_entropy(z, y) + F.cross_entropy(z2, y)) + alpha * kl_both_ways(z, z2).sum() / 2


Reference = Callable[[Tensor, Tensor, Tensor], Tensor]
CASES: dict[str, tuple[TaskDef, float, float, Reference]] = {  # task, factor, weight, reference
    "paper, α = 1": (
        CLASSES,
        2,
        read_preset("rdrop/paper", "test")["weight"],
        lambda z, z2, y: paper(z, z2, y, alpha=1.0),
    ),
    "paper, α = 5": (CLASSES, 2, 5 / 2, lambda z, z2, y: paper(z, z2, y, alpha=5.0)),
    "GLUE": (CLASSES, 2, BATCH / 4, of_glue),
    "GLUE, values": (SCORES, 2, 1 / 2, of_glue_values),
    "RoBERTa-large": (CLASSES, 2, 1 / 2, lambda z, z2, y: of_roberta_large(z, z2, y, alpha=1.0)),
    "README": (CLASSES, 1, BATCH, lambda z, z2, y: of_its_readme(z, z2, y, alpha=1.0)),
}


def with_gradients(term: Callable[..., Tensor], outputs: Tensor) -> tuple[Tensor, ...]:
    z, z2 = (output.clone().requires_grad_() for output in outputs)
    value = term(z, z2)
    return value.detach(), *torch.autograd.grad(value, [z, z2])


@pytest.mark.parametrize("name", CASES)
def test_each_form_of_the_loss_is_a_factor_times_ours_at_some_weight(name: str) -> None:
    task, factor, weight, reference = CASES[name]
    outputs = torch.randn(2, BATCH, task.n_class, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = GOLD[task.name].double() if task is SCORES else GOLD[task.name]

    def ours(z: Tensor, z2: Tensor) -> Tensor:
        batch: Any = make_batch(task)
        view = TwoOutputs(None, batch, task, Telemetry(), outputs=(z, z2))  # type: ignore[arg-type]
        (loss,) = RDrop(RDropOptions(weight=weight), task)(view)
        return factor * loss

    found, expected = with_gradients(ours, outputs), with_gradients(lambda z, z2: reference(z, z2, labels), outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_the_preset_of_the_released_code_is_for_the_batches_of_its_script() -> None:
    """bert_rdrop/run.sh trains MRPC in batches of 16."""
    assert read_preset("rdrop/released", "test")["weight"] == 16 / 4
