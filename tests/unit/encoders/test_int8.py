"""Linear layers with 8-bit weights: as near to the exact ones as rounding allows, and refused where they cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.int8 import quantize_blocks
from mt_dnn.encoders.load import load_encoder
from mt_dnn.encoders.packed import PACKED_FAMILIES
from mt_dnn.inference.trained import with_precision
from tests.parity.test_encoder import config_of, make_batch

WEIGHT_LEVELS, INPUT_LEVELS = 127, 127  # torch uses 7 bits of the input, so that sums of products fit 16 bits


def fresh(family: str) -> Encoder:
    torch.manual_seed(0)
    return load_encoder(config=config_of(family)).eval()


def bound(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """The most that rounding of weights and inputs can change each output of a layer, (T, outputs)."""
    weight_error = layer.weight.abs().amax(1) / WEIGHT_LEVELS / 2  # (outputs,), one scale per output
    spread = inputs.max().clamp(min=0) - inputs.min().clamp(max=0)
    input_error = spread / INPUT_LEVELS  # half a level for the value, half a level for the zero
    by_weights = inputs.abs().sum(1)[:, None] * weight_error
    by_inputs = input_error * (layer.weight.abs() + weight_error[:, None]).sum(1)
    return by_weights + by_inputs


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_each_layer_is_as_near_as_rounding_allows(family: str) -> None:
    encoder, batch = fresh(family), make_batch()
    layers = {name: part for name, part in encoder.blocks.named_modules() if isinstance(part, nn.Linear)}
    assert len(layers) >= 18
    quantize_blocks(encoder)
    for name, layer in layers.items():
        inputs = torch.randn(20, layer.in_features)
        quantized = encoder.blocks.get_submodule(name)
        assert not isinstance(quantized, nn.Linear)
        difference = (quantized(inputs) - layer(inputs)).abs()
        assert (difference <= bound(layer, inputs) + 1e-6).all() and difference.max() > 0
    assert encoder(batch).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_the_shortened_last_block_is_quantized_too(family: str) -> None:
    encoder, batch = fresh(family), make_batch()
    exact = encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    quantize_blocks(encoder)
    short = encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    encoder.shortens_last_block = False
    full = encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    assert 0 < (short - exact).abs().max() < 0.05
    torch.testing.assert_close(short, full, atol=0.01, rtol=0)  # inputs of a layer share a scale, and there are fewer


def test_a_trained_run_answers_with_int8(workspace: Path) -> None:
    mt_dnn.train(workspace / "run.yml", {"tasks": ["same"], "train.epochs": 1, "train.precision": "bf16"})
    rows = [("a b c", "a b c"), ("a b c", "d e"), ("a", "b c d e a b")]
    exact = mt_dnn.load(workspace / "run", "cpu")
    rounded = mt_dnn.load(workspace / "run", "cpu", precision="int8")
    assert rounded.config.train.precision == "fp32"  # 8-bit layers take no bf16
    assert mt_dnn.load(workspace / "run", "cpu", precision="fp32").predict("same", rows) != exact.predict("same", rows)
    before, after = (np.array([list(r["scores"].values()) for r in m.predict("same", rows)]) for m in (exact, rounded))
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, before, atol=0.05)
    with pytest.raises(UserError, match=r"^precision: tf32 is a number type of GPUs, .* use fp32"):
        mt_dnn.load(workspace / "run", "cpu", precision="tf32")
    of_a_gpu = exact.config.model_copy(update={"train": exact.config.train.model_copy(update={"precision": "tf32"})})
    assert with_precision(of_a_gpu, exact.model, None, torch.device("cpu")).train.precision == "fp32"
    assert with_precision(of_a_gpu, exact.model, None, torch.device("meta")).train.precision == "tf32"
    with pytest.raises(UserError, match="precision: no 'int4', did you mean 'int8'"):
        mt_dnn.load(workspace / "run", "cpu", precision="int4")
    with pytest.raises(UserError, match="precision: int8 runs on a CPU only, not on meta; choose the device cpu"):
        with_precision(exact.config, exact.model, "int8", torch.device("meta"))
