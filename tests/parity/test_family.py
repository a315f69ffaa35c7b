"""encoder.pooler: family, against the classifiers of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from data_utils.errors import UserError
from mt_dnn.encoders.family import FAMILY_HEADS, FamilyLayers
from mt_dnn.encoders.load import load_encoder
from mt_dnn.inference.trained import load
from tests.exporting import assert_same_logits, run_of
from tests.parity.test_encoder import config_of, fresh, make_batch
from tests.parity.test_export import reload
from tests.tiny import FAMILIES

BELOW = {  # the module of transformers with the dropout before the dense layer
    "roberta": "classifier.dropout",
    "xlm-roberta": "classifier.dropout",
    "xlm-roberta-xl": "classifier.dropout",
    "mpnet": "classifier.dropout",
    "electra": "classifier.dropout",
    "deberta-v2": "pooler.dropout",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classifier_dropout", [None, 0.3])
def test_dropout_is_that_of_the_family(family: str, classifier_dropout: float | None) -> None:
    settings = {"hidden_dropout_prob": 0.2, "pooler_dropout": 0.25, "classifier_dropout": classifier_dropout}
    if family == "modernbert":
        settings = {"classifier_dropout": 0.3}
    config = AutoConfig.for_model(**config_of(family, **settings))
    reference = AutoModelForSequenceClassification.from_config(config)
    dropout = FamilyLayers(config).dropout
    if family not in BELOW:
        assert isinstance(dropout, nn.Identity)
        return
    module: Any = reference.get_submodule(BELOW[family])
    assert isinstance(dropout, nn.Dropout) and dropout.p == module.p > 0


def test_every_family_of_the_tests_is_known() -> None:
    assert set(FAMILIES) <= set(FAMILY_HEADS)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("family", ["electra", "modernbert", "mpnet"])
def test_only_first_tokens_are_read_where_the_family_reads_them(family: str) -> None:
    encoder, batch = fresh(family, pooler="family"), make_batch()
    assert encoder.reads_first_tokens
    full = encoder.pool(encoder(batch), batch)
    torch.testing.assert_close(encoder.resume_pooled(encoder.upto(0, batch), 0, batch), full, atol=1e-12, rtol=0)


@pytest.mark.usefixtures("in_float64")
def test_modernbert_may_read_the_mean(tmp_path: Path) -> None:
    options = ("encoder.pooler=family", "tasks=[same,odd]")
    model = load(run_of(tmp_path, "modernbert", *options, more=["odd"], classifier_pooling="mean"))
    assert not model.model.encoder.reads_first_tokens
    for task in ("same", "odd"):
        exported, tokenizer = reload(model, task, tmp_path / task)
        assert exported.config.classifier_pooling == "mean"
        assert_same_logits(model, exported, tokenizer, task, 1e-6)


def test_for_bert_it_is_the_pretrained_pooler() -> None:
    assert load_encoder(config=config_of("bert"), pooler="family").pooler is None


def test_of_other_families_nothing_is_known() -> None:
    with pytest.raises(UserError, match=r"encoder\.pooler: family is not known for 'camembert' \(only bert"):
        load_encoder(config={**config_of("roberta"), "model_type": "camembert"}, pooler="family")
