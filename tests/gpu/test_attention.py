"""Attention on a GPU: operators for different lengths give what padding gives, and dropout keeps the right share."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from mt_dnn.encoders import attention
from mt_dnn.encoders.dropout import Dropout
from mt_dnn.encoders.variable_length import Layout, efficient, flash, kernel_for
from mt_dnn.runs.build import choose_device
from tests.gpu.device import NEEDS_GPU, kernels_of
from tests.parity.test_encoder import EVEN, RAGGED, SINGLE, fresh, make_batch

pytestmark = NEEDS_GPU
TYPES = {torch.float32: (efficient, 1e-5), torch.bfloat16: (flash, 3e-2), torch.float16: (flash, 4e-3)}


@pytest.mark.parametrize("dtype", TYPES)
def test_every_number_type_has_its_operator(dtype: torch.dtype) -> None:
    """FlashAttention needs a GPU of 2020 or later."""
    expected = TYPES[dtype][0] if torch.cuda.get_device_capability() >= (8, 0) else efficient
    assert kernel_for(torch.zeros(4, 2, 64, dtype=dtype, device="cuda")) is expected


@pytest.mark.parametrize("lengths", [RAGGED, EVEN, SINGLE])
@pytest.mark.parametrize("dtype", TYPES)
def test_states_and_gradients_are_those_of_padded_attention(dtype: torch.dtype, lengths: tuple[int, ...]) -> None:
    found = []
    encoder, batch = fresh("bert").cuda(), make_batch(lengths).to("cuda")
    for encoder.joins_sequences in (False, True):
        encoder.zero_grad()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            hidden, firsts = encoder(batch), encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
        (hidden.float().sin().mean() + firsts.float().sin().mean()).backward()
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        found.append([hidden.float(), firsts.float(), *gradients])
    for padded, together in zip(*found, strict=True):
        torch.testing.assert_close(together, padded, atol=TYPES[dtype][1], rtol=TYPES[dtype][1])


@pytest.mark.parametrize("dtype", TYPES)
def test_dropout_keeps_the_right_share_and_repeats(dtype: torch.dtype) -> None:
    """With values 1, an output is the sum of the weights that are kept, divided by the share that is kept."""
    kernel = kernel_for(torch.zeros(4, 2, 64, dtype=dtype, device="cuda"))
    assert kernel is not None
    lengths = torch.tensor([0, 100, 400, 512], dtype=torch.int32, device="cuda")
    query, key = (torch.randn(512, 8, 64, dtype=dtype, device="cuda") for _ in range(2))
    layout, value, state = Layout(lengths, lengths, 300, 300), torch.ones_like(query), torch.cuda.get_rng_state()
    for p in (0.1, 0.5):
        torch.cuda.set_rng_state(state)
        first = kernel(query, key, value, layout, p, None)
        other = kernel(query, key, value, layout, p, None)
        torch.cuda.set_rng_state(state)
        again = kernel(query, key, value, layout, p, None)
        assert again.equal(first) and not other.equal(first)
        assert first[..., 0].float().mean().item() == pytest.approx(1, abs=0.02)


def test_cudnn_makes_no_plans() -> None:
    """Neither training nor evaluation runs cuDNN's attention, and new lengths cost no more than old ones."""
    device = choose_device("cuda")
    encoder = fresh("bert").to(device)
    batches = [make_batch((5, 9, length)).to(device) for length in range(20, 30)]

    def evaluate() -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
            for batch in batches:
                encoder(batch)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        encoder(make_batch((3, 4)).to(device))
    first = evaluate()
    assert first < 5 * evaluate() + 0.1
    for encoder.joins_sequences in (False, True):
        assert not [name for name in kernels_of(evaluate) if "cudnn" in name.lower() and "attention" in name.lower()]


def test_the_last_block_of_first_tokens_has_no_mask_of_its_own() -> None:
    """Queries of first tokens only: one row of attention per sequence."""
    batch = make_batch(RAGGED).to("cuda")
    module: Any = torch.nn.Module()
    module.dropout = Dropout(0.0)
    query = torch.randn(1, 2, len(RAGGED), 16, device="cuda")
    key, value = (torch.randn(1, 2, sum(RAGGED), 16, device="cuda") for _ in range(2))
    together, padded = (
        attention.attend_from_firsts(module, query, key, value, batch, together=v) for v in (True, False)
    )
    torch.testing.assert_close(together, padded, atol=1e-5, rtol=1e-5)
