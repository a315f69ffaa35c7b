"""The pooled head on the shared pooler against transformers' sequence classification."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.heads import PooledHead
from tests.parity.test_encoder import RAGGED, fresh, make_batch

pytestmark = pytest.mark.usefixtures("in_float64")


def test_logits_equal_transformers_classifier(tmp_path: Path) -> None:
    fresh("bert").save(tmp_path)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3, dtype=torch.float32).eval()
    encoder, batch = load_encoder(name=str(tmp_path)).eval(), make_batch()
    head = PooledHead(encoder.hidden_size, 3, 0.1, encoder.initializer_range).eval()
    head.linear.load_state_dict(reference.classifier.state_dict())
    logits = head(encoder.pool(encoder(batch), batch), batch)
    for i, (ids, types) in enumerate(
        zip(batch.input_ids.split(list(RAGGED)), batch.token_type_ids.split(list(RAGGED)), strict=True)
    ):
        expected = reference(input_ids=ids[None], token_type_ids=types[None]).logits[0]
        torch.testing.assert_close(logits[i], expected, atol=1e-9, rtol=0)


def test_initialisation_and_dropout() -> None:
    torch.manual_seed(0)
    head = PooledHead(200, 100, 0.5, 0.02)
    assert 0.019 < head.linear.weight.std() < 0.021 and not head.linear.bias.any()
    batch, pooled = make_batch(), torch.randn(4, 200)
    assert not torch.equal(head.train()(pooled, batch), head(pooled, batch))
    assert torch.equal(head.eval()(pooled, batch), head(pooled, batch))
