"""Which number types are slow, and the scale of losses in fp16: as torch's, but known without asking the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mt_dnn.training.precision import UNITS, LossScaler, lacks_units

FACTORS = [1.0, float("inf"), 1.0, 1.0, 1.0, float("nan"), 1.0, 1.0]  # of the loss; two overflow


def trained(scaler: Any, name: str, factors: list[float], weights: Any = None, state: Any = None) -> Any:
    """Weights, scales and the scaler's state after an update with each factor."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 2)
    if weights is not None:
        layer.load_state_dict(weights)
        scaler.load_state_dict(state)
    else:
        scaler.set_growth_interval(2)
    optimizer = getattr(torch.optim, name)(layer.parameters(), lr=0.1, **({"fused": True} if name == "SGD" else {}))
    scales = []
    for factor in factors:
        loss = layer(torch.ones(3, 4)).square().mean() * factor
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scales.append(scaler.get_scale())
    return {key: value.clone() for key, value in layer.state_dict().items()}, scales, scaler.state_dict()


@pytest.mark.parametrize("optimizer", ["Adamax", "SGD"])
def test_it_scales_and_skips_as_torch_does(optimizer: str) -> None:
    """One optimizer is fused, which torch's scaler treats in another way."""
    expected = trained(torch.amp.GradScaler("cpu"), optimizer, FACTORS)
    found = trained(LossScaler("cpu", enabled=True), optimizer, FACTORS)
    assert found[1:] == expected[1:] and len(set(found[1])) > 1
    assert all(found[0][key].equal(expected[0][key]) for key in expected[0])


def test_it_goes_on_from_a_saved_state() -> None:
    complete = trained(LossScaler("cpu", enabled=True), "SGD", FACTORS)
    weights, _, state = trained(LossScaler("cpu", enabled=True), "SGD", FACTORS[:5])
    resumed = trained(LossScaler("cpu", enabled=True), "SGD", FACTORS[5:], weights, state)
    assert resumed[1] == complete[1][5:] and resumed[2] == complete[2]
    assert all(resumed[0][key].equal(complete[0][key]) for key in complete[0])


def test_disabled_it_does_nothing() -> None:
    scaler = LossScaler("cpu", enabled=False)
    assert scaler.get_scale() == 1.0 and scaler.scale(torch.tensor(2.0)) == 2.0
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.bias.item()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert layer.bias.item() == before - 1.0


@pytest.mark.parametrize(
    ("precision", "unit", "device", "lacks"),
    [
        ("bf16", "avx2", "cpu", True),
        ("fp16", "avx512_bf16", "cpu", True),
        ("bf16", "avx512_bf16", "cpu", False),
        ("bf16", "amx_bf16", "cpu", False),
        ("fp16", "fp16_arith", "cpu", False),
        ("fp32", "avx2", "cpu", False),
        ("bf16", "avx2", "cuda", False),
    ],
)
def test_processors_without_units_for_16_bits_are_known(
    precision: str, unit: str, device: str, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"avx2": True, "fp16_arith": False, unit: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert lacks_units(precision, torch.device(device)) == lacks


def test_a_torch_that_cannot_tell_makes_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not lacks_units("bf16", torch.device("cpu"))


def test_torch_knows_the_names_of_these_units() -> None:
    if not hasattr(torch.cpu, "get_capabilities") or torch.cpu.get_capabilities()["architecture"] != "x86_64":
        pytest.skip("this torch does not tell, or this is no x86 processor")
    names = {unit for units in UNITS.values() for unit in units if unit.startswith(("avx", "amx"))}
    assert len(names) == 4 and names <= torch.cpu.get_capabilities().keys()
