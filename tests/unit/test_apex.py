"""apex where it is installed, played here by torch's own classes; one line where it is not."""

from __future__ import annotations

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


def fused_adam(params: Any, *, adam_w_mode: bool, **options: Any) -> torch.optim.Optimizer:
    assert adam_w_mode
    return torch.optim.AdamW(params, **options)


@pytest.fixture
def apex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    optimizers: Any = ModuleType("apex.optimizers")
    optimizers.FusedAdam = fused_adam
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
    figures = (workspace / name / "metrics.jsonl").read_text()
    return [float(part.split(",")[0]) for part in figures.split('"loss": ')[1:]]


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


@pytest.mark.parametrize("option", ["optimizer.name=apex_adamw", "optimizer.name=apex_lamb", "train.apex_layer_norm=1"])
def test_without_apex_there_is_one_line(workspace: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))  # the project that has the name on PyPI
    with pytest.raises(UserError, match=r"NVIDIA's apex is not installed .* does the same without it") as found:
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
