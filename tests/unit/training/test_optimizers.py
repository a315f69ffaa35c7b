"""Parameter groups, freezing, Lookahead around schedules and gradient scaling, schedules."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from data_utils.errors import UserError
from mt_dnn.training.groups import freeze, parameter_groups
from mt_dnn.training.optimizers import OPTIMIZERS, AdamaxW, Lookahead, OptimizerConfig, build_optimizer
from mt_dnn.training.schedules import SHAPES, ScheduleConfig, build_schedule
from tests.tiny_model import RUN_ON_CPU, TinyModel, optimizer_config, skip_unless_installed, train, weights

RATES: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.01}


def grouped_names(model: Any, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


# --- parameter groups -------------------------------------------------------------------------------------


def test_vectors_do_not_decay() -> None:
    model: Any = TinyModel()
    groups = parameter_groups(model, **{**RATES, "weight_decay": 0.1})
    assert len(groups) == 2
    rates = grouped_names(model, groups)
    assert rates.keys() == dict(model.named_parameters()).keys()
    assert {name for name, (_, decay) in rates.items() if decay == 0} == {
        name for name in rates if name.endswith(".bias") or "LayerNorm" in name
    }
    assert {lr for lr, _ in rates.values()} == {0.01}


def test_no_decay_patterns_add() -> None:
    model: Any = TinyModel()
    rates = grouped_names(model, parameter_groups(model, **{**RATES, "no_decay": ("heads.rte.*", "embeddings")}))
    assert rates["heads.rte.weight"][1] == rates["encoder.model.embeddings.weight"][1] == 0
    assert rates["heads.stsb.weight"][1] == 0.01


def test_heads_may_ask_for_another_rate() -> None:
    model: Any = TinyModel()
    model.heads["rte"].lr_factors = {"weight": 50.0}
    rates = grouped_names(model, parameter_groups(model, **{**RATES, "weight_decay": 0.1}))
    assert rates.pop("heads.rte.weight") == (pytest.approx(0.5), 0.0)
    assert {lr for lr, _ in rates.values()} == {0.01} and rates["heads.stsb.weight"] == (0.01, 0.1)


def test_heads_may_have_a_rate_for_all_of_them() -> None:
    model: Any = TinyModel()
    model.heads["rte"].lr_factors = {"weight": 50.0}
    rates = grouped_names(model, parameter_groups(model, **{**RATES, "layer_decay": 0.5, "head_lr": 0.2}))
    assert rates["heads.rte.weight"][0] == pytest.approx(10.0)
    assert rates["heads.rte.bias"][0] == rates["heads.stsb.weight"][0] == 0.2
    assert rates["encoder.pooler.weight"][0] == 0.01
    assert rates["encoder.model.layer.2.dense.weight"][0] == 0.005


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_two_rates_train_as_two_groups_of_a_plain_optimizer(name: str) -> None:
    """Against torch's own optimizer with one group for the encoder and one for the heads."""
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    ours: Any = TinyModel()
    theirs: Any = TinyModel()
    config = OptimizerConfig.model_validate(
        {"name": name, "lr": 0.01, "head_lr": 0.3, "weight_decay": 0.0, "lookahead": {"enabled": False}}
    )
    groups = [{"params": theirs.encoder.parameters(), "lr": 0.01}, {"params": theirs.heads.parameters(), "lr": 0.3}]
    optimizers = (build_optimizer(ours, config), kinds[name](groups, weight_decay=0.0))
    for model, optimizer in zip((ours, theirs), optimizers, strict=True):
        for step in range(3):
            model(torch.arange(6), ["rte", "stsb"][step % 2]).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for (key, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=key)


def test_layer_decay() -> None:
    model: Any = TinyModel()
    rates = grouped_names(model, parameter_groups(model, **{**RATES, "layer_decay": 0.5}))
    expected = {
        "heads.rte.weight": 0.01,
        "encoder.pooler.weight": 0.01,
        "encoder.model.layer.2.dense.weight": 0.005,
        "encoder.model.layer.0.LayerNorm.bias": 0.00125,
        "encoder.model.embeddings.weight": 0.000625,
    }
    assert {name: rates[name][0] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (("embeddings",), {"encoder.model.embeddings.weight"}),
        (("layers:1",), "encoder.model.layer.1."),
        (("layers:0-2",), "encoder.model.layer."),
        (("heads.stsb.*", "*pooler.bias"), {"heads.stsb.weight", "heads.stsb.bias", "encoder.pooler.bias"}),
        ((), set()),
    ],
)
def test_freeze(patterns: tuple[str, ...], frozen: set[str] | str) -> None:
    model: Any = TinyModel()
    optimizer = build_optimizer(model, optimizer_config(freeze=patterns))
    off = {name for name, p in model.named_parameters() if not p.requires_grad}
    if isinstance(frozen, str):
        frozen = {name for name, _ in model.named_parameters() if name.startswith(frozen)}
    assert off == frozen
    assert off.isdisjoint(grouped_names(model, optimizer.param_groups))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_decay": ("*.gamma",)}, "optimizer.no_decay: '*.gamma' matches no parameter (names are like"),
        (
            {"freeze": ("heads.rte.wieght",)},
            "optimizer.freeze: 'heads.rte.wieght' matches no parameter, did you",
        ),
        (
            {"freeze": ("layers:1-3",)},
            "optimizer.freeze: 'layers:1-3': write layers:first-last with numbers from 0 to 2",
        ),
        ({"freeze": ("layers:2-1",)}, "layers:first-last"),
        ({"freeze": ("layers:all",)}, "layers:first-last"),
        ({"freeze": ("*",)}, "no parameter is left to train"),
    ],
)
def test_patterns_that_go_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        build_optimizer(TinyModel(), optimizer_config(**options))  # type: ignore[arg-type]


def test_frozen_parameters_still_count_as_matches() -> None:
    model: Any = TinyModel()
    freeze(model, ("embeddings",))
    assert parameter_groups(model, **{**RATES, "no_decay": ("*embeddings*",)})


# --- optimizers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUN_ON_CPU)
def test_options_reach_the_optimizer(name: str) -> None:
    skip_unless_installed(name)
    options: dict[str, Any] = {"momentum": 0.7} if name == "sgd" else {"betas": (0.8, 0.95), "eps": 1e-5}
    model: Any = TinyModel()
    optimizer = build_optimizer(
        model, optimizer_config(name=name, weight_decay=0.3, lookahead={"enabled": False}, **options)
    )
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in options} == options
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.3)


def test_every_name_of_the_configuration_is_an_optimizer_or_schedule() -> None:
    assert set(OPTIMIZERS) == set(OptimizerConfig.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]
    assert set(SHAPES) == set(ScheduleConfig.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]


def test_lamb_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=re.escape("pip install 'mt-dnn[lamb]'")):
        build_optimizer(TinyModel(), optimizer_config(name="lamb"))  # type: ignore[arg-type]


def test_adamaxw_runs_the_closure_before_it_decays() -> None:
    parameter = nn.Parameter(torch.tensor([4.0]))
    optimizer = AdamaxW([parameter], lr=0.1, weight_decay=0.5)
    seen = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        seen.append(parameter.item())
        return loss

    assert optimizer.step(closure).item() == 16
    assert seen == [4.0]
    torch.testing.assert_close(parameter.detach(), torch.tensor([4 * 0.95 - 0.1]))
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


# --- Lookahead --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [True, False])
def test_trajectory_of_a_constant_gradient(foreach: bool) -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = Lookahead(torch.optim.SGD([parameter], lr=1.0, foreach=foreach), steps=2, alpha=0.5)
    values = []
    for _ in range(4):
        parameter.grad = torch.ones(1)
        optimizer.step()
        values.append(parameter.item())
    assert values == [2, 2, 1, 1]  # the second and fourth inner steps reach 1 and 0


def test_lookahead_under_schedule_and_scaler() -> None:
    """The rate reaches the inner optimizer, and a step skipped for infinite gradients does not count."""
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = Lookahead(torch.optim.SGD([parameter], lr=1.0), steps=2, alpha=0.5)
    schedule = LambdaLR(optimizer, lambda step: 1.0 if step < 2 else 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    values = []
    for factor in (1.0, float("inf"), 1.0, 1.0):
        scaler.scale((parameter * factor).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        optimizer.zero_grad()
        assert parameter.grad is None
        values.append(parameter.item())
    # 3 − 1; skipped; 2 − 0.5 = 1.5, halfway from 3: 2.25; 2.25 − 0.5
    assert values == [2.0, 2.0, 2.25, 1.75]
    assert optimizer.counter == 1


def test_lookahead_shares_groups_also_after_loading() -> None:
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = Lookahead(AdamaxW(parameters[:1]), steps=2)
    optimizer.add_param_group({"params": parameters[1:], "lr": 0.5})
    assert len(optimizer.slow) == 2
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    assert optimizer.state is optimizer.optimizer.state
    optimizer.param_groups[1]["lr"] = 0.25
    assert optimizer.optimizer.param_groups[1]["lr"] == 0.25


def test_lookahead_leaves_parameters_without_gradient() -> None:
    model: Any = TinyModel()
    before = weights(model)
    optimizer = build_optimizer(model, optimizer_config())
    train(model, optimizer, LambdaLR(optimizer, lambda _: 1.0), range(4))
    after = weights(model)
    assert torch.equal(before["heads.stsb.weight"], after["heads.stsb.weight"])
    assert not torch.equal(before["heads.rte.weight"], after["heads.rte.weight"])


@pytest.mark.parametrize(("steps", "alpha"), [(0, 0.5), (5, 0.0), (5, 1.1)])
def test_lookahead_arguments(steps: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="Lookahead needs"):
        Lookahead(torch.optim.SGD([nn.Parameter(torch.ones(1))]), steps=steps, alpha=alpha)


# --- schedules --------------------------------------------------------------------------------------------


def rates(total: int, **options: Any) -> list[float]:
    """Learning rate of each update and what is left after the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = build_schedule(optimizer, ScheduleConfig(**options), total)
    found = []
    for _ in range(total + 1):
        found.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return found


def test_schedules_differ() -> None:
    """A polynomial schedule stays one; it is not replaced by the linear one."""
    assert rates(10, name="linear", warmup_fraction=0.2) == pytest.approx(
        [0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    )
    assert rates(4, name="polynomial", power=2.0, warmup_fraction=0) == pytest.approx([1, 9 / 16, 1 / 4, 1 / 16, 0])
    assert rates(4, name="constant", warmup_fraction=0.5) == [0, 0.5, 1, 1, 1]
    assert rates(4, name="cosine", warmup_fraction=0) == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("total", "warmup_fraction"), [(1, 0.1), (3, 1.0), (5, 0.0)])
def test_schedules_at_the_edges(name: str, total: int, warmup_fraction: float) -> None:
    found = rates(total, name=name, warmup_fraction=warmup_fraction)
    assert all(0 <= rate <= 1 for rate in found)
    assert found[0] == (1.0 if warmup_fraction < 1 else 0.0)
