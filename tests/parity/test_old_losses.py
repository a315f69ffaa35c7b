"""Old names of losses against the criteria of the released MT-DNN code (mt_dnn/loss.py), written out in float64.

Where a name is read without a notice, value and gradients are the same; where there is a notice, they are not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data_utils.old_mtdnn import OLD_VALUES, OTHER_MEANINGS
from mt_dnn.tasks.losses import DIVERGENCES

EPSILON = 1e-6


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Σ p log(p/q) from logits, mean over rows."""
    p, q = p.softmax(1), q.softmax(1)
    return (p * (p / q).log()).sum(1).mean()


def stable_kl(z: Tensor, target: Tensor) -> Tensor:
    """2 Σ p (r_p − r_y), where r = −log(1/p − 1) is detached."""
    p, y = z.softmax(1), target.softmax(1)
    r_p, r_y = (-(1 / (values + EPSILON) - 1 + EPSILON).detach().log() for values in (p, y))
    return (2 * p * (r_p - r_y)).sum(1).mean()


def js(z: Tensor, z2: Tensor) -> Tensor:
    m = 0.5 * (z.detach().softmax(1) + z2.detach().softmax(1))
    return sum(((m * (m.log() - side.log_softmax(1))).sum(1).mean() for side in (z, z2)), torch.zeros(()))


def hellinger(z: Tensor, z2: Tensor) -> Tensor:
    return ((z.detach().softmax(1).sqrt() - z2.detach().softmax(1).sqrt()) ** 2).mean()


# The first argument is the clean output, the second the perturbed one, as the released code calls them.
RELEASED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "KlCriterion": lambda z, z2: kl(z2, z),
    "NsKlCriterion": lambda z, z2: stable_kl(z, z2.detach()),
    "SymKlCriterion": lambda z, z2: kl(z2.detach(), z) + kl(z.detach(), z2),
    "NsSymKlCriterion": lambda z, z2: stable_kl(z, z2.detach()) + stable_kl(z2, z.detach()),
    "JSCriterion": js,
    "HLCriterion": hellinger,
    "MseCriterion": lambda z, z2: ((z - z2) ** 2).mean(),
}


def trained(term: Callable[..., Tensor], outputs: Tensor) -> Tensor:
    """The value of a term and its gradients, in one tensor."""
    z, z2 = (output.clone().requires_grad_() for output in outputs)
    value = term(z, z2)
    gradients = [torch.zeros_like(z)] * 2
    if value.requires_grad:
        gradients = list(torch.autograd.grad(value, [z, z2], materialize_grads=True))
    return torch.cat([value.detach()[None].double(), *(gradient.flatten() for gradient in gradients)])


@pytest.mark.parametrize("name", OLD_VALUES["divergence"])
def test_a_notice_stands_where_an_old_loss_computed_something_else(name: str) -> None:
    outputs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    divergence = DIVERGENCES[OLD_VALUES["divergence"][name]]
    ours = trained(lambda z, z2: divergence(z, z2, stop_gradient="kl_target"), outputs)
    theirs = trained(RELEASED[name], outputs)
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9) == (name not in OTHER_MEANINGS["adv_loss"])
    assert (ours - theirs).abs().max() > 0.01 or name not in OTHER_MEANINGS["adv_loss"]
