"""A model with the names, depths and heads that an optimizer reads, small enough to train in no time."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mt_dnn.training.optimizers import OPTIMIZERS, OptimizerConfig

# apex's kernels need a GPU; tests/unit/test_apex.py plays its part.
RUN_ON_CPU = [name for name in OPTIMIZERS if not name.startswith("apex_")]


def skip_unless_installed(optimizer: str) -> None:
    if optimizer == "lamb":
        pytest.importorskip("pytorch_optimizer", reason="the extra lamb is not installed")


class TinyEncoder(nn.Module):
    """Embeddings, three blocks and a pooler, named as in a transformer."""

    num_layers = 3

    def __init__(self) -> None:
        super().__init__()
        block = [nn.ModuleDict({"dense": nn.Linear(4, 4), "LayerNorm": nn.LayerNorm(4)}) for _ in range(3)]
        self.model = nn.ModuleDict({"embeddings": nn.Embedding(6, 4), "layer": nn.ModuleList(block)})
        self.pooler = nn.Linear(4, 4)

    def depth_of(self, name: str) -> int:
        if name.startswith("model.embeddings"):
            return 0
        layer = re.match(r"model\.layer\.(\d+)\.", name)
        return int(layer[1]) + 1 if layer else self.num_layers + 1


class TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = TinyEncoder()
        self.heads = nn.ModuleDict({"rte": nn.Linear(4, 2), "stsb": nn.Linear(4, 1)})

    def forward(self, tokens: Tensor, task: str) -> Tensor:
        state = self.encoder.model["embeddings"](tokens)
        for block in self.encoder.model["layer"]:  # type: ignore
            state = block["LayerNorm"](state + block["dense"](state).tanh())
        return self.heads[task](self.encoder.pooler(state).tanh())


def optimizer_config(**options: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate({"lr": 0.01, "lookahead": {"steps": 2}, **options})


def train(model: Any, optimizer: Any, schedule: Any, steps: range, tasks: tuple[str, ...] = ("rte",)) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(6, (5,), generator=generator)
        model(tokens, tasks[step % len(tasks)]).square().mean().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def names_of(model: nn.Module) -> dict[Any, str]:
    return {p: name for name, p in model.named_parameters()}
