"""r4f: R3F with a head whose largest singular value is 1."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mt_dnn.adversarial.r3f import R3F, R3FOptions
from mt_dnn.tasks.model import Model


class R4FOptions(R3FOptions):
    """Settings of r4f: robust representations through regularized and reparameterized fine-tuning."""

    mode: Literal["r4f"] = "r4f"  # type: ignore[assignment]


class R4F(R3F):
    """R3F with each linear layer of the head divided by its largest singular value (Aghajanyan et al. 2021, eq. 5).

    Power iteration estimates the singular value. It makes one round in each forward pass in training (Miyato et al.
    2018).
    """

    options_type = R4FOptions
    changes_head = True

    @classmethod
    def prepare(cls, options: Any, model: Model, task: str) -> None:
        if task not in model.heads:
            return  # the task uses the head of another task, which prepares the head
        for layer in list(model.heads[task].modules()):
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
                norm = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
                norm.__class__ = type("SpectralNorm", (_InFullPrecision, type(norm)), {})


class _InFullPrecision(nn.Module):
    """Goes in front of torch's spectral norm: its power iteration would lose digits in 16-bit numbers."""

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return super().forward(weight)
