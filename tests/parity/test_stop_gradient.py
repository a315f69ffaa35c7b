"""What the regulariser of each preset trains: gradients of both outputs in float64, against transcriptions.

The boxes of SMART, TAT and RAPT stop no gradient. The criteria of the released MT-DNN code (mt_dnn/loss.py) detach the
target of each KL term, and nothing of a squared error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.presets import read_preset
from mt_dnn.adversarial.view import View
from mt_dnn.telemetry import Telemetry
from tests.parity.test_adversaries import TASKS, make_batch

Term = Callable[[Tensor, Tensor], Tensor]


def p_log_ratio(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of Σ_c p_c log(p_c / q_c), from logits."""
    p, q = p.softmax(1), q.softmax(1)
    return (p * (p / q).log()).sum(1).mean()


def box_kl(z: Tensor, z2: Tensor) -> Tensor:
    return p_log_ratio(z, z2)


def box_sym_kl(z: Tensor, z2: Tensor) -> Tensor:
    return p_log_ratio(z, z2) + p_log_ratio(z2, z)


def released_sym_kl(z: Tensor, z2: Tensor) -> Tensor:
    return p_log_ratio(z2.detach(), z) + p_log_ratio(z.detach(), z2)


def square(z: Tensor, z2: Tensor) -> Tensor:
    return ((z - z2) ** 2).mean()


EXPECTED: dict[str, tuple[Term, Term]] = {  # in classification, in regression
    "vat/paper": (box_sym_kl, square),
    "vat/smart": (box_sym_kl, square),
    "vat/mtdnn": (released_sym_kl, square),
    "tat/paper": (box_sym_kl, square),
    "tat/mtdnn": (released_sym_kl, square),
    "rapt/paper": (box_kl, square),
    "rapt/token": (box_kl, square),
    "rapt/words": (box_kl, square),
    "rapt/embeddings": (box_kl, square),
}


def trained(term: Term, clean: Tensor, perturbed: Tensor) -> tuple[Tensor, ...]:
    """The value of a term and its gradients."""
    z, z2 = (tensor.clone().requires_grad_() for tensor in (clean, perturbed))
    value = term(z, z2)
    return value.detach(), *torch.autograd.grad(value, [z, z2], materialize_grads=True)


@pytest.mark.parametrize("task", ["classes", "scores"])
@pytest.mark.parametrize("name", EXPECTED)
def test_presets_train_what_their_source_trains(name: str, task: str) -> None:
    settings = read_preset(name, "test")
    mode: Any = ADVERSARIES[settings["mode"]]
    adversary = mode(mode.options_type.model_validate(settings), TASKS[task])
    view = View(model=None, batch=make_batch(TASKS[task]), task=TASKS[task], telemetry=Telemetry())  # type: ignore
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(2, 3, TASKS[task].n_class, generator=generator, dtype=torch.float64)
    ours = trained(lambda z, z2: adversary.regularizer(view, z, z2), *outputs)
    theirs = trained(EXPECTED[name][task == "scores"], *outputs)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert ours[1].abs().max() > 1e-3 and ours[2].abs().max() > 1e-3
