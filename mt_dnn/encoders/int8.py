"""Linear layers in 8-bit integers, for evaluation on a CPU."""

from __future__ import annotations

import warnings

from torch import nn

from mt_dnn.encoders.adapters import merge_adapter
from mt_dnn.encoders.encoder import Encoder

INT8 = "int8"  # the name of this precision


def quantize_blocks(encoder: Encoder) -> None:
    """Replaces the linear layers of all blocks, in place, by layers with 8-bit weights. Training is over then.

    An adapter becomes part of them first.

    A layer has one scale per output. Its input is rounded to 7 or 8 bits, with a scale that is chosen in each call
    (dynamic quantisation). Sums are exact, and the output is in float32.
    """
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    if encoder.adapter is not None:
        merge_adapter(encoder)
    with warnings.catch_warnings():  # torch plans to move this to the package torchao
        warnings.simplefilter("ignore")
        for block in encoder.blocks:
            quantize_dynamic(block, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
