"""Neighbours are the nearest words by cosine, and noise is that of the run's mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import mt_dnn
from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError
from data_utils.rows import find_rows, read_rows
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.adversarial.view import View
from mt_dnn.analyses.answers import NamedRun
from mt_dnn.analyses.neighbours import Request, neighbours, word_tokens
from mt_dnn.analyses.noise import noisy_states
from mt_dnn.batches.batch import Share
from mt_dnn.batches.collate import collate
from mt_dnn.runs.config import RunConfig
from mt_dnn.telemetry import Telemetry
from tests.double import in_double_precision
from tests.workspace import rows_of


def loaded(folder: Path, *names: str) -> list[Any]:
    return [(NamedRun(name, folder / name), mt_dnn.load(folder / name)) for name in names]


@pytest.mark.parametrize("level", [0, 2])
def test_neighbours_are_those_of_a_plain_model(folder: Path, level: int) -> None:
    """The states of all words, row by row, from the checkpoint's files."""
    with in_double_precision():
        runs = loaded(folder, "none")
        runs[0][1].model.double()
        record = neighbours(runs, "same", Request("cat", level, top=5))
        checkpoint = folder / "none" / "best" / "encoder"
        model, tokenizer = AutoModel.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)

        def states(texts: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
            inputs = tokenizer(*texts, return_tensors="pt", return_token_type_ids=True)
            with torch.no_grad():
                if level == 0:
                    vectors = model.get_input_embeddings()(inputs["input_ids"])[0]
                else:
                    vectors = model(**inputs, output_hidden_states=True).hidden_states[level][0]
            tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
            return [(token, vector.numpy()) for token, vector in zip(tokens, vectors, strict=True) if token.isalpha()]

        uid, sentence = next((row[0], row[2:]) for row in rows_of("same", 40, 2) if "cat" in " ".join(row[2:]).split())
        target = next(vector for word, vector in states(sentence) if word == "cat")
        found: dict[str, list[np.ndarray]] = {}
        for row in rows_of("same", 96, 1):
            for word, vector in states(row[2:]):
                found.setdefault(word, []).append(vector)
    means = {word: np.mean(vectors, axis=0) for word, vectors in found.items() if word != "cat"}
    cosines = {word: m @ target / np.linalg.norm(m) / np.linalg.norm(target) for word, m in means.items()}
    expected = sorted(cosines, key=lambda word: -cosines[word])[:5]
    before = record["runs"][0]["before"]
    assert [near["word"] for near in before] == expected
    assert [near["similarity"] for near in before] == pytest.approx([cosines[word] for word in expected], rel=1e-9)
    assert record["uid"] == uid and record["runs"][0]["after"] is None
    assert record["runs"][0]["shared"] == 5


def test_noise_of_a_block_does_not_reach_the_embeddings(folder: Path) -> None:
    assert neighbours(loaded(folder, "rapt"), "same", Request("cat", 0))["runs"][0]["after"] is None


def test_noise_changes_similarities(folder: Path) -> None:
    record = neighbours(loaded(folder, "none", "rapt"), "same", Request("cat", 1, top=5))
    rapt = record["runs"][1]
    assert rapt["mode"] == "rapt" and rapt["before"] != rapt["after"]
    assert 0 <= rapt["shared"] <= 5
    again = neighbours(loaded(folder, "none", "rapt"), "same", Request("cat", 1, top=5))
    assert again == record
    other = neighbours(loaded(folder, "rapt"), "same", Request("cat", 1, top=5, seed=1))
    assert other["runs"][0]["after"] != rapt["after"] and other["runs"][0]["before"] == rapt["before"]


MODES = {
    "rapt": ({"mode": "rapt", "max_layer": 2, "magnitude": 0.7}, 1, "inf", 0.7),
    "embedding": ({"mode": "rapt", "max_layer": 0, "magnitude": 0.7}, 0, "inf", 0.7),
    "freelb": ({"mode": "freelb", "radius": 0.3, "step_size": 1.0}, 0, "2", 0.3),
    "pgd": ({"mode": "pgd", "radius": 0.3, "step_size": 1.0}, 0, "2", 0.3),
    "vat": ({"mode": "vat", "radius": 1e-2, "noise_std": 0.1, "projection": "normalize"}, 0, "inf", 1e-2),
    "tat": ({"mode": "tat", "radius": 1e-2, "noise_std": 0.1, "projection": "normalize"}, 0, "inf", 1e-2),
}


@pytest.mark.parametrize("mode", MODES)
def test_noise_is_as_large_as_in_training(mode: str, folder: Path) -> None:
    options, level, order, size = MODES[mode]
    ((_, model),) = loaded(folder, "none")
    task, data = model.task("same"), model.config.data
    rows = read_rows(find_rows(data.dir, task, "dev"), task, max_rows=1)
    split = encode_rows(rows, task, model.tokenizer, max_length=data.max_length)
    batch = collate(split, [0], task="same", share=Share.undivided(1, 4))
    config = RunConfig.model_validate({**model.config.model_dump(), "adversary": options})
    adversary = build_adversaries(config.adversary, {"same": task})["same"]
    view = View(model.model, batch, task, Telemetry(), reports=False)
    noisy, above = noisy_states(adversary, view, level), noisy_states(adversary, view, 2)
    assert noisy is not None and above is not None
    delta = noisy - view.upto(level).detach()
    largest = delta.abs().max() if order == "inf" else delta.norm()
    assert float(largest) == pytest.approx(size, rel=1e-3)
    assert not torch.equal(above, view.upto(2))


def test_tokens_of_words_are_those_of_the_row(folder: Path) -> None:
    ((_, model),) = loaded(folder, "none")
    task = model.task("same")
    rows = read_rows(find_rows(model.config.data.dir, task, "dev"), task, max_rows=1)
    rows = replace(rows, first=["The cats, x."], second=["cat"])
    split = encode_rows(rows, task, model.tokenizer, max_length=32)
    words = list(word_tokens(model.tokenizer, rows, 0, split))
    tokens = model.tokenizer.convert_ids_to_tokens(split.tokens.tolist())
    assert [(word, [tokens[position] for position in positions]) for word, positions in words] == [
        ("the", ["the"]),
        ("cats", ["cat", "##s"]),
        ("x", ["x"]),
        ("cat", ["cat"]),
    ]
    short = encode_rows(rows, task, model.tokenizer, max_length=7)
    for word, positions in word_tokens(model.tokenizer, rows, 0, short):
        ids = short.tokens[positions].tolist()
        assert "".join(model.tokenizer.convert_ids_to_tokens(ids)).replace("##", "")[:2] == word[:2]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("xylophone", 0), "no word 'xylophone' in any row"),
        (Request("cat", 0, uid="999"), "no word 'cat' in the row '999'"),
        (Request("cat", 9), "level 9: an encoder of 2 blocks has levels 0-2"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, request_: Request, message: str) -> None:
    with pytest.raises(UserError, match=message):
        neighbours(loaded(folder, "none"), "same", request_)
