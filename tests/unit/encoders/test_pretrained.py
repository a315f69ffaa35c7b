"""New encoders: settings that make none are one line, whatever transformers raises for them."""

from __future__ import annotations

import pytest

from data_utils.errors import UserError
from mt_dnn.encoders.pretrained import find_blocks, fresh_model, make_config

SMALL = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 20}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_attention_heads", value) for value in (0, -1, 3, "x", 10**30)),
        *(("num_hidden_layers", value) for value in (0, -1, 10**9, "x", None)),
        *(("hidden_size", value) for value in (0, -1, "x", 10**12)),
        *(("vocab_size", value) for value in (-1, 10**12)),
        *(("pad_token_id", 10**6), ("layer_norm_eps", "x"), ("hidden_act", "x"), ("initializer_range", -1)),
    ],
)
def test_sizes_that_no_encoder_has_are_one_line(key: str, value: object) -> None:
    with pytest.raises(UserError, match=r"^encoder(\.config)?: ") as found:
        fresh = fresh_model(make_config({**SMALL, key: value}))
        find_blocks(fresh)
    assert len(str(found.value)) < 400
