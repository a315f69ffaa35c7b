"""apex where it is installed, played here by torch's own classes; one line where it is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from data_utils.errors import UserError
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.training.optimizers import OPTIMIZERS
from tests.parts import parts
from tests.tiny_model import optimizer_config, skip_unless_installed


class FusedLayerNorm(nn.Module):
    """The interface of apex.normalization.FusedLayerNorm."""

    def __init__(self, normalized_shape: Any, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(normalized_shape)), nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(state, self.weight.shape, self.weight, self.bias, self.eps)


class FusedAdam(torch.optim.AdamW):
    """The interface of apex.optimizers.FusedAdam: ``zero_grad`` takes no argument."""

    def __init__(self, params: Any, *, adam_w_mode: bool, **options: Any) -> None:
        assert adam_w_mode
        super().__init__(params, **options)

    def zero_grad(self) -> None:  # type: ignore[override]
        super().zero_grad()


class FusedLAMB(torch.optim.Optimizer):
    """The interface of apex.optimizers.FusedLAMB, and what csrc/multi_tensor_lamb.cu computes."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
        use_nvlamb: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.bias_correction, self.use_nvlamb, self.max_grad_norm = bias_correction, use_nvlamb, max_grad_norm

    def zero_grad(self) -> None:  # type: ignore[override]
        super().zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in weights]).norm()
        clip = norm / self.max_grad_norm if norm > self.max_grad_norm else 1.0
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            (beta1, beta2), decay = group["betas"], group["weight_decay"]
            corrections = [1 - beta ** group["step"] if self.bias_correction else 1.0 for beta in (beta1, beta2)]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                v = state.setdefault("exp_avg_sq", torch.zeros_like(p))
                g = p.grad / clip
                m.mul_(beta1).add_(g, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                update = m / corrections[0] / ((v / corrections[1]).sqrt() + group["eps"]) + decay * p
                ratio = 1.0
                if (self.use_nvlamb or decay != 0) and p.norm() != 0 and update.norm() != 0:
                    ratio = p.norm() / update.norm()
                p -= group["lr"] * ratio * update


@pytest.fixture
def apex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    optimizers: Any = ModuleType("apex.optimizers")
    optimizers.FusedAdam, optimizers.FusedLAMB = FusedAdam, FusedLAMB
    normalization: Any = ModuleType("apex.normalization")
    normalization.FusedLayerNorm = FusedLayerNorm
    for name, module in {
        "apex": ModuleType("apex"),
        "apex.optimizers": optimizers,
        "apex.normalization": normalization,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield


def losses(workspace: Path, name: str, *options: str) -> list[float]:
    run = Run(load_config(workspace / "run.yml", ["train.epochs=1", f"output={workspace / name}", *options]))
    assert isinstance(run(), dict)
    records = map(json.loads, (workspace / name / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["event"] == "train"]


@pytest.mark.usefixtures("apex")
def test_apex_parts_train_the_same_model(workspace: Path) -> None:
    plain = losses(workspace, "torch", "optimizer.name=adamw")
    fused = losses(workspace, "apex", "optimizer.name=apex_adamw", "train.apex_layer_norm=true")
    assert fused == pytest.approx(plain, abs=1e-4) and len(plain) > 2
    run = parts(workspace, "train.apex_layer_norm=true", f"output={workspace / 'again'}")
    kinds = [type(module) for module in run.model.encoder.modules()]
    assert FusedLayerNorm in kinds and nn.LayerNorm not in kinds
    # evaluation and resumption do without it
    losses(workspace, "apex", "optimizer.name=apex_adamw", "train.apex_layer_norm=false")


@pytest.mark.usefixtures("apex")
def test_apex_lamb_trains_as_lamb(workspace: Path) -> None:
    """Weights and biases, with decay and without. The norms of all weights are below 10 here.

    Without Lookahead the training step sees apex's own optimizer.
    """
    skip_unless_installed("lamb")
    options = ["optimizer.lr=0.02", "optimizer.weight_decay=0.1", "optimizer.lookahead.enabled=false"]
    plain = losses(workspace, "lamb", "optimizer.name=lamb", *options)
    fused = losses(workspace, "apex_lamb", "optimizer.name=apex_lamb", *options)
    assert fused == pytest.approx(plain, abs=1e-4) and len(plain) > 2


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize(("size", "same"), [(0.5, True), (5.0, False)])
def test_lamb_counts_a_norm_as_ten_at_most_and_apex_does_not(size: float, same: bool) -> None:
    skip_unless_installed("lamb")
    generator = torch.Generator().manual_seed(1)
    start, gradients = torch.randn(4, 5, generator=generator), torch.randn(3, 4, 5, generator=generator)
    found = []
    for name in ("lamb", "apex_lamb"):
        for decay in (0.0, 0.1):
            weight = nn.Parameter(size * start.double())
            config = optimizer_config(name=name, lr=0.1, weight_decay=decay)
            optimizer = OPTIMIZERS[name]([{"params": [weight], "weight_decay": decay}], config)
            for gradient in gradients.double():
                weight.grad = gradient.clone()
                optimizer.step()
            found.append(weight.detach())
    assert (start.norm() * size > 10) != same
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6) == same


@pytest.mark.parametrize("option", ["optimizer.name=apex_adamw", "optimizer.name=apex_lamb", "train.apex_layer_norm=1"])
def test_without_apex_there_is_one_line(workspace: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))  # the project that has the name on PyPI
    with pytest.raises(UserError, match=r"NVIDIA's apex is not installed .* use .* without it") as found:
        parts(workspace, option)
    assert str(found.value).startswith(option.split("=")[0])
    assert not (workspace / "run").exists()


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("name", ["lamb", "apex_adamw"])
def test_optimizers_that_need_whole_weights_say_so(name: str, tmp_path: Path) -> None:
    skip_unless_installed("lamb")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        weight = nn.Parameter(distribute_tensor(torch.ones(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)]))
        with pytest.raises(UserError, match=f"{name} cannot update weights that fsdp splits over ranks"):
            OPTIMIZERS[name]([{"params": [weight]}], optimizer_config(name=name))
    finally:
        distributed.destroy_process_group()
