"""Saved optimizer state: bit-exact resume, and refusal of state that does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from data_utils.errors import UserError
from mt_dnn.training.optimizer_state import load_optimizer_tensors, optimizer_tensors
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.schedules import ScheduleConfig, build_schedule
from tests.tiny_model import (
    RUN_ON_CPU,
    TinyModel,
    names_of,
    optimizer_config,
    same,
    skip_unless_installed,
    train,
    weights,
)

Transfer = Callable[[Any, Any, Any, Any, Path], None]


def through_state_dict(old: Any, new: Any, old_model: Any, new_model: Any, folder: Path) -> None:
    torch.save(old.state_dict(), folder / "state.pt")
    new.load_state_dict(torch.load(folder / "state.pt", weights_only=True))


def through_tensors(old: Any, new: Any, old_model: Any, new_model: Any, folder: Path) -> None:
    save_file(optimizer_tensors(old, names_of(old_model)), folder / "state.safetensors")
    load_optimizer_tensors(new, names_of(new_model), load_file(folder / "state.safetensors"))


@pytest.mark.parametrize("transfer", [through_state_dict, through_tensors])
@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize("name", RUN_ON_CPU)
def test_resume_is_bit_exact(name: str, lookahead: bool, transfer: Transfer, tmp_path: Path) -> None:
    skip_unless_installed(name)
    options = {"momentum": 0.9} if name == "sgd" else {}
    chosen = optimizer_config(name=name, layer_decay=0.8, lookahead={"enabled": lookahead, "steps": 3}, **options)

    def build() -> tuple[Any, Any, Any]:
        model: Any = TinyModel()
        optimizer = build_optimizer(model, chosen)
        return (
            model,
            optimizer,
            build_schedule(optimizer, ScheduleConfig.model_validate({"warmup_fraction": 0.5}), 12),
        )

    model, optimizer, schedule = build()
    train(model, optimizer, schedule, range(5))
    resumed_model, resumed, resumed_schedule = build()
    resumed_model.load_state_dict(model.state_dict())
    resumed_schedule.load_state_dict(schedule.state_dict())
    transfer(optimizer, resumed, model, resumed_model, tmp_path)
    assert same(optimizer_tensors(resumed, names_of(resumed_model)), optimizer_tensors(optimizer, names_of(model)))
    for one in ((model, optimizer, schedule), (resumed_model, resumed, resumed_schedule)):
        train(*one, range(5, 12), tasks=("rte", "stsb"))  # stsb's head starts without optimizer state
    assert same(weights(resumed_model), weights(model))
    assert same(optimizer_tensors(resumed, names_of(resumed_model)), optimizer_tensors(optimizer, names_of(model)))


def saved(**options: Any) -> tuple[Any, Any, dict[str, Tensor]]:
    model: Any = TinyModel()
    optimizer = build_optimizer(model, optimizer_config(**options))
    train(model, optimizer, LambdaLR(optimizer, lambda _: 1.0), range(3))
    return model, optimizer, dict(optimizer_tensors(optimizer, names_of(model)))


def test_keys_of_the_flat_state() -> None:
    _, _, tensors = saved()
    assert {
        "class::AdamaxW",
        "group::0::lr",
        "lookahead::counter",
        "lookahead::heads.stsb.weight",
        "heads.rte.weight::exp_avg",
        "heads.rte.weight::exp_inf",
        "heads.rte.weight::step",
    } <= tensors.keys()
    assert "heads.stsb.weight::step" not in tensors  # never had a gradient


def drop(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(key)


def put(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("heads.rte.weight::exp_inf"), "(missing: heads.rte.weight::exp_inf)"),
        (drop("lookahead::heads.stsb.bias"), "(missing: lookahead::heads.stsb.bias)"),
        (drop("lookahead::counter"), "(missing: lookahead::counter)"),
        (drop("group::1::lr"), "(missing: group::1::lr)"),
        (put("group::2::lr", torch.tensor(0.1)), "(unexpected: group::2::lr)"),
        (put("heads.cola.weight::exp_avg", torch.ones(2)), "(unexpected: heads.cola.weight::exp_avg)"),
        (put("heads.rte.bias::exp_avg", torch.ones(3)), "(another shape: heads.rte.bias::exp_avg)"),
        (put("lookahead::heads.rte.bias", torch.ones(1)), "(another shape: lookahead::heads.rte.bias)"),
    ],
)
def test_damaged_state_is_refused(change: Callable[[dict[str, Tensor]], None], message: str) -> None:
    model, optimizer, tensors = saved()
    before = {key: value.clone() for key, value in tensors.items()}
    damaged = {key: value.clone() for key, value in tensors.items()}
    change(damaged)
    with pytest.raises(UserError, match=re.escape(message)):
        load_optimizer_tensors(optimizer, names_of(model), damaged)
    assert same(optimizer_tensors(optimizer, names_of(model)), before)


def test_state_of_another_configuration_is_refused() -> None:
    model, optimizer, _ = saved()
    with pytest.raises(UserError, match="missing: class::AdamaxW; unexpected: class::AdamW"):
        load_optimizer_tensors(optimizer, names_of(model), saved(name="adamw")[2])
    with pytest.raises(UserError, match=r"missing: lookahead::counter, .* and \d+ more"):
        load_optimizer_tensors(optimizer, names_of(model), saved(lookahead={"enabled": False})[2])
