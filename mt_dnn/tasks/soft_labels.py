"""The loss on soft labels, the probabilities that teachers give to the answers (MT-DNN-KD; Liu et al. 2019b)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mt_dnn.section import Section
from mt_dnn.tasks.losses import MISSING, Reduction, mse, precise

LEAST = 1e-8  # a teacher's probability is taken to be at least this, so that its logarithm is finite


class DistillationConfig(Section):
    """The section ``distillation`` of a run file: how rows with a ``soft_label`` train the model."""

    weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the loss on soft labels (kd_loss), 0 to 1; 0: soft labels are not used",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="T: softens the probabilities of teacher and student to p^(1/T); kd_loss is multiplied by T²",
    )

    @model_validator(mode="after")
    def _all_read(self) -> DistillationConfig:
        self._refuse_unread("weight: 0", {"temperature"}, {"temperature"} if self.weight else set())
        return self


def soft_loss(
    logits: Tensor,
    soft: Tensor,
    divergence: Callable[..., Tensor],
    *,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """T² d(q, p), q_c ∝ soft_c^(1/T), p = softmax(z/T) (Hinton et al. 2015, section 2.1). Logits z and soft (N, C).

    The arguments of d are log-probabilities. So ``kl`` has the gradient of cross-entropy with soft targets (Liu et al.
    2019b, section 3), and ``mse`` compares logits up to a constant. A single output is a value, with the loss
    (z − soft)², without T.
    """
    if logits.shape[1] == 1:
        return mse(soft.to(precise(logits).dtype), logits, reduction=reduction)
    missing = logits < MISSING / 2
    teacher, student = (
        torch.log_softmax(scores.float().masked_fill(missing, -torch.inf) / temperature, dim=1)
        for scores in (soft.log(), logits)
    )
    teacher = teacher.clamp(min=math.log(LEAST))
    both = (scores.masked_fill(missing, MISSING) for scores in (teacher, student))
    return temperature**2 * divergence(*both, stop_gradient="none", reduction=reduction)
