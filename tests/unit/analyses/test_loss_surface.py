"""The loss surface has the plain loss in its middle, and its directions are as long as the filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.analyses.answers import NamedRun
from mt_dnn.analyses.loss_surface import Landscape, difference, loss_surface, random_direction
from mt_dnn.batches.draws import seed_of
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.runs.evaluate import predict_split
from tests.double import in_double_precision

FIRST: dict[str, Any] = {"points": 3, "rows": 20, "seed": 3}


def test_the_middle_is_the_plain_loss(folder: Path) -> None:
    """In float64, against the loss of an evaluation, which is computed by other code."""
    with in_double_precision():
        model = mt_dnn.load(folder / "none")
        model.model.double()
        record = loss_surface([(NamedRun("none", folder / "none"), model)], "same", points=3, rows=1000)
        split = read_splits(model.config, [(model.task("same"), "train")], model.tokenizer)[0]["same", "train"]
        task = model.task("same")
        decoded = predict_split(model.model, task, task, split, model.passes, with_loss=True)
    assert record["rows"] == 96 and record["axis"] == [-1.0, 0.0, 1.0] and record["line"] is None
    surface = record["surfaces"][0]
    assert surface["losses"][1][1] == surface["loss"]
    assert surface["loss"] == pytest.approx(decoded.loss, rel=1e-12)
    assert len({loss for row in surface["losses"] for loss in row}) == 9


def test_a_point_of_the_grid_is_the_loss_of_a_model_with_these_weights(folder: Path) -> None:
    run, model = NamedRun("none", folder / "none"), mt_dnn.load(folder / "none")
    record = loss_surface([(run, model)], "same", **FIRST)
    landscape = Landscape(model, "same", rows=20, seed=3)
    before = landscape.loss()
    directions = [random_direction(landscape.center, seed_of(3, number)) for number in (1, 2)]
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            for direction, step in zip(directions, (-1, 1), strict=True):
                if name in direction:
                    weight += step * direction[name]
    assert record["surfaces"][0]["losses"][0][2] == pytest.approx(landscape.loss(), rel=1e-5)
    assert landscape.loss() != before


def test_filters_of_a_direction_are_as_long_as_those_of_the_model(folder: Path) -> None:
    center = Landscape(mt_dnn.load(folder / "none"), "same", rows=5, seed=0).center
    direction, again, other = (random_direction(center, seed) for seed in (1, 1, 2))
    assert {name for name, weight in center.items() if weight.dim() > 1} == direction.keys()
    assert "heads.same.linear.weight" in direction or any(name.startswith("heads.same.") for name in direction)
    assert not any(name.startswith("heads.negated.") for name in center)
    for name, values in direction.items():
        expected = np.linalg.norm(center[name].numpy().reshape(len(values), -1), axis=1)
        np.testing.assert_allclose(values.flatten(1).norm(dim=1).numpy(), expected, rtol=1e-4, atol=1e-7)
        assert torch.equal(values, again[name]) and not torch.equal(values, other[name])


def test_the_same_seed_gives_the_same_surface_and_leaves_the_model_as_it_was(folder: Path) -> None:
    run, model = NamedRun("none", folder / "none"), mt_dnn.load(folder / "none")
    weights = {name: weight.detach().clone() for name, weight in model.model.named_parameters()}
    first = loss_surface([(run, model)], "same", **FIRST)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.model.named_parameters())
    assert loss_surface([(run, model)], "same", **FIRST) == first
    assert loss_surface([(run, model)], "same", **{**FIRST, "seed": 4})["surfaces"] != first["surfaces"]


def test_the_line_passes_through_both_models(folder: Path) -> None:
    runs = [(NamedRun(name, folder / name), mt_dnn.load(folder / name)) for name in ("none", "tat")]
    record = loss_surface(runs, "same", **FIRST)
    line, surfaces = record["line"], record["surfaces"]
    assert line["positions"] == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert line["losses"][1] == surfaces[0]["loss"]
    assert line["losses"][3] == pytest.approx(surfaces[1]["loss"], rel=1e-4)
    assert surfaces[0]["loss"] != surfaces[1]["loss"]


def test_what_has_no_surface_is_named(folder: Path) -> None:
    model = mt_dnn.load(folder / "none")
    with pytest.raises(UserError, match="was not trained on same_hard; choose one of same, negated"):
        Landscape(model, "same_hard", rows=5, seed=0)
    center = Landscape(model, "same", rows=5, seed=0).center
    fewer = {name: weight for name, weight in center.items() if not name.startswith("heads")}
    with pytest.raises(UserError, match="has other weights than the first run"):
        difference(center, fewer, NamedRun("b", Path("b")))
