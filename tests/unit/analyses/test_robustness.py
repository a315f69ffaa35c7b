"""The maximum loss increment, against PGD written out on a plain transformers model, one example at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.analyses import robustness as module
from mt_dnn.analyses.answers import NamedRun
from mt_dnn.analyses.attack import AttackConfig, attack
from mt_dnn.analyses.robustness import robustness
from mt_dnn.batches.draws import seed_of
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.inference.trained import TrainedModel
from tests.double import in_double_precision
from tests.tiny import tiny_classifier
from tests.workspace import rows_of

CONFIG = AttackConfig(steps=6, restarts=2, step_size=0.25, seed=5)
ROWS = [3, 0, 11]
RADII = [0.5, 2.0, 1.0]


def plain_increase(run: Path, model: TrainedModel, row: int, radius: float) -> tuple[float, float, bool]:
    """Clean loss, increase and whether the class stays right; from the checkpoint's files, without the toolkit."""
    checkpoint = run / "best" / "encoder"
    encoder, tokenizer = AutoModel.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    head = dict(model.model.heads["same"].named_parameters())
    weight, bias = (next(p for name, p in head.items() if name.endswith(kind)) for kind in ("weight", "bias"))
    _, gold, *texts = rows_of("same", 40, 2)[row]
    inputs = tokenizer(*texts, return_tensors="pt", return_token_type_ids=True)
    label = torch.tensor([["different", "same"].index(gold)])
    words = encoder.get_input_embeddings()(inputs["input_ids"]).detach()

    def logits(delta: Tensor) -> Tensor:
        types = {"token_type_ids": inputs["token_type_ids"]}
        hidden = encoder(inputs_embeds=words + delta, **types).last_hidden_state[:, 0]
        return torch.tanh(encoder.pooler.dense(hidden)) @ weight.T + bias

    clean = F.cross_entropy(logits(torch.zeros_like(words)), label).item()
    best, safe = clean, bool(logits(torch.zeros_like(words)).argmax() == label)
    for restart in range(CONFIG.restarts):
        generator = torch.Generator().manual_seed(seed_of(seed_of(CONFIG.seed, restart), 1 + row, 1))
        noise = 2 * torch.rand(words.shape[1:], generator=generator) - 1
        delta = noise[None] * radius / np.sqrt(noise.numel())
        for step in range(CONFIG.steps + 1):
            delta = delta.detach() * min(1.0, radius / delta.norm().item())
            delta.requires_grad_()
            output = logits(delta)
            loss = F.cross_entropy(output, label)
            best, safe = max(best, loss.item()), safe and bool(output.argmax() == label)
            if step < CONFIG.steps:
                (gradient,) = torch.autograd.grad(loss, delta)
                delta = delta + CONFIG.step_size * radius * gradient / gradient.norm()
    return clean, best - clean, safe


def test_attack_is_pgd_on_a_plain_model(folder: Path) -> None:
    """In float64, with a head and a pooler that the test reads from the checkpoint."""
    with in_double_precision():
        model = mt_dnn.load(folder / "none")
        model.model.double()
        split = read_splits(model.config, [(model.task("same"), "dev")], model.tokenizer)[0]["same", "dev"]
        together = attack(model, "same", split, np.array(ROWS), np.array(RADII), CONFIG)
        for number, (row, radius) in enumerate(zip(ROWS, RADII, strict=True)):
            clean, increase, safe = plain_increase(folder / "none", model, row, radius)
            assert together.clean[number] == pytest.approx(clean, rel=1e-9)
            assert together.increase[number] == pytest.approx(increase, rel=1e-6)
            assert together.safe[number] == safe
            alone = attack(model, "same", split, np.array([row]), np.array([radius]), CONFIG)
            assert alone.increase[0] == pytest.approx(together.increase[number], rel=1e-9)
        assert (together.increase > 1e-4).all()


def loaded(folder: Path, *names: str) -> list[Any]:
    return [(NamedRun(name, folder / name), mt_dnn.load(folder / name)) for name in names]


OPTIONS: dict[str, Any] = {"radius": 0.8, "levels": 8, "examples": 6, "config": AttackConfig(steps=4, seed=1)}


def test_balls_are_those_in_which_the_reference_stays_right(folder: Path) -> None:
    runs = loaded(folder, "none", "tat")
    record = robustness(runs, "same", "dev", **OPTIONS)
    assert [table["name"] for table in record["references"]] == ["none", "tat"]
    assert record["examples"] == 6 <= record["correct_in_all"]
    split = read_splits(runs[0][1].config, [(runs[0][1].task("same"), "dev")], runs[0][1].tokenizer)[0]["same", "dev"]
    sizes: set[float] = set()
    for (_, model), table in zip(runs, record["references"], strict=True):
        assert table["left_out"] + len(table["radii"]) == 6
        rows, radii = np.array([split.uids.index(uid) for uid in table["uids"]], np.int64), np.array(table["radii"])
        for row, radius in zip(rows, radii, strict=True):
            safe = [
                attack(model, "same", split, np.array([row]), np.array([size]), OPTIONS["config"]).safe[0]
                for size in (radius, radius + 0.1)
            ]
            assert safe == [True, False] or (safe[0] and radius == 0.8)
        sizes |= set(table["radii"])
        for entry in table["models"]:
            assert entry["median"] == pytest.approx(np.median(entry["increases"])) and min(entry["increases"]) >= 0
            assert entry["sd"] == pytest.approx(np.std(entry["increases"], ddof=1))
    assert len(sizes) > 1
    chosen = robustness(runs, "same", "dev", **OPTIONS, references=["tat"])
    assert chosen["references"] == record["references"][1:]


def test_a_stopped_analysis_goes_on_where_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = robustness(loaded(folder, "none", "tat"), "same", "dev", **OPTIONS)
    original, calls = attack, list[int]()

    def stopped(*arguments: Any, **options: Any) -> Any:
        calls.append(len(arguments[3]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, "attack", stopped)
    with pytest.raises(KeyboardInterrupt):
        robustness(loaded(folder, "none", "tat"), "same", "dev", **OPTIONS, folder=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text() + '{"stage": "radius', encoding="utf-8")  # cut off by the stop
    kept.write_text(kept.read_text() + "\n", encoding="utf-8")
    assert robustness(loaded(folder, "none", "tat"), "same", "dev", **OPTIONS, folder=tmp_path) == expected
    count = len(calls)
    assert robustness(loaded(folder, "none", "tat"), "same", "dev", **OPTIONS, folder=tmp_path) == expected
    assert len(calls) == count  # everything was known
    other = {**OPTIONS, "config": AttackConfig(steps=5, seed=1)}
    robustness(loaded(folder, "none", "tat"), "same", "dev", **other, folder=tmp_path)
    assert len(calls) > count and len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_attacked_is_named(folder: Path) -> None:
    runs = loaded(folder, "none", "tat")
    with pytest.raises(UserError, match="no run is named 'rapt'"):
        robustness(runs, "same", "dev", **OPTIONS, references=["rapt"])
    with pytest.raises(UserError, match="choose a task with classes that the run was trained on"):
        robustness(runs, "same_hard", "test", **OPTIONS)
    with pytest.raises(UserError, match="has no labels"):
        robustness(runs, "same", "test", **OPTIONS)
    assert json.dumps(robustness(runs, "same", "dev", **{**OPTIONS, "radius": 1e6, "examples": 2}), allow_nan=False)


def test_a_model_of_transformers_is_attacked_too(tmp_path: Path) -> None:
    """Its intermediate results belong to its weights."""
    model_folder, journal = tiny_classifier(tmp_path / "model"), tmp_path / "journal"
    model = mt_dnn.load(model_folder, device="cpu")
    texts = ["the cat", "a dog", "the old man"]
    labels = [answer["prediction"] for answer in model.predict("default", texts)]
    rows = [f"{number}\t{label}\t{text}\n" for number, (label, text) in enumerate(zip(labels, texts, strict=True))]
    (tmp_path / "default_dev.tsv").write_text("uid\tlabel\tpremise\n" + "".join(rows))
    runs = [(NamedRun("foreign", model_folder), model)]
    record = robustness(runs, "default", "dev", radius=1.0, levels=2, config=CONFIG, data=tmp_path, folder=journal)
    assert record["examples"] == record["correct_in_all"] == 3 and len(list(journal.iterdir())) == 1
