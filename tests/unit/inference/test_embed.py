"""Vectors of texts beside plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.inference.trained import TrainedModel
from tests.workspace import make_workspace

TEXTS = ["the cat sees a dog", "not", "a small red bird likes the old man , the woman", "the cat"]
PAIRS = [(first, second) for first, second in zip(TEXTS, reversed(TEXTS), strict=True)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("embed")
    make_workspace(folder, train_rows=8)
    return mt_dnn.train(folder / "run.yml", ["train.max_steps=2", "optimizer.lr=1e-2"]).model()


def plain(model: TrainedModel, texts: list[Any], level: int | None, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Padded states (N, L, H), the mask (N, L) and the pooler's output (N, H) of transformers' model."""
    folder = Path(model.run) / "best" / "encoder"
    reference, tokenizer = AutoModel.from_pretrained(folder).to(dtype).eval(), AutoTokenizer.from_pretrained(folder)
    columns = [texts] if isinstance(texts[0], str) else [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, padding=True, return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        output = reference(**encoded, output_hidden_states=True)
    states = output.last_hidden_state if level is None else output.hidden_states[level]
    return states, encoded["attention_mask"].bool()[..., None], output.pooler_output


@pytest.mark.parametrize("level", [None, 0, 1, 2])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_vectors_are_those_of_transformers(texts: list[Any], level: int | None, model: TrainedModel) -> None:
    for dtype, kind, tolerance in ((torch.float32, np.float32, 1e-5), (torch.float64, np.float64, 1e-10)):
        model.model.to(dtype)
        states, mask, pooled = plain(model, texts, level, dtype)
        expected = {
            "cls": states[:, 0],
            "mean": (states * mask).sum(1) / mask.sum(1),
            "max": states.masked_fill(~mask, -torch.inf).amax(1),
        }
        if level is None:
            expected["pooler"] = pooled
        for pooling, vectors in expected.items():
            found = model.embed(texts, pooling=pooling, level=level, batch_size=3)
            assert found.dtype == kind and found.shape == (4, 32)
            np.testing.assert_allclose(found, vectors.numpy(), atol=tolerance, rtol=tolerance)
    model.model.float()


def test_the_size_of_batches_and_the_order_change_nothing(model: TrainedModel) -> None:
    vectors = model.embed(TEXTS)
    np.testing.assert_allclose(model.embed(TEXTS, batch_size=1), vectors, atol=1e-6)
    np.testing.assert_allclose(model.embed(iter(TEXTS[::-1]))[::-1], vectors, atol=1e-6)
    np.testing.assert_array_equal(model.embed(np.array(TEXTS)), vectors)
    np.testing.assert_array_equal(model.embed(dict(enumerate(PAIRS)).values()), model.embed(PAIRS))
    assert model.embed([]).shape == (0, 32)
    model.model.train()
    np.testing.assert_array_equal(model.embed(TEXTS), vectors)  # dropout is off
    assert model.model.training
    model.model.eval()


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("the cat", {}, "rows: give a list of rows, not a single str"),
        (["a", 3], {}, "row 2: is of type int"),
        ([("a", "b"), "c"], {}, "row 2: has 1 text; a row of texts is a tuple"),
        (["a"], {"pooling": "maen"}, "pooling: no 'maen', did you mean 'mean'"),
        (["a"], {"pooling": "pooler", "level": 1}, "pooling: 'pooler' reads the final states; leave level out"),
        ({"premise": "the cat"}, {}, "rows: give a list of rows, not a single dict"),
        (5, {}, "rows: give a list of rows, not a single int"),
        (["a"], {"batch_size": -1}, r"batch_size: write a whole number from 1 on \(got -1\)"),
        (["a"], {"batch_size": 1.5}, r"batch_size: write a whole number from 1 on \(got 1.5\)"),
        (["a"], {"level": True}, "level: write a whole number from 0 to 2"),
        (["a"], {"level": 3}, "level 3: an encoder of 2 blocks has levels 0-2"),
    ],
)
def test_what_is_refused(texts: Any, options: dict[str, Any], message: str, model: TrainedModel) -> None:
    with pytest.raises(UserError, match=message):
        model.embed(texts, **options)
