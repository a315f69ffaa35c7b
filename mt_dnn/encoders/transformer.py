"""What is read of the structure of a transformers model, whatever its family."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mt_dnn.encoders.pretrained import find_blocks, quiet

ABOVE_BLOCKS = ("pooler.", "mix.", "model.pooler.", "model.final_norm.")


class Transformer(nn.Module):
    """A transformers model: its sizes, its blocks, and how it is saved.

    ``ignored_weights``: names of weights in the checkpoint that the model does not use, such as those of a
    language-modelling head.
    ``adapter``: peft's settings of the adapter in the model (adapters.py). None: it has none.
    ``pooler_source``: how the vector of a sequence is made; ``fresh``: with a pooler that is not part of a checkpoint.
    """

    adapter: Any = None
    pooler_source = "pretrained"

    def __init__(self, model: Any, ignored_weights: list[str]) -> None:
        super().__init__()
        self.model = model
        self.ignored_weights = ignored_weights
        self.hidden_size: int = model.config.hidden_size
        self.num_layers: int = model.config.num_hidden_layers
        self.initializer_range: float = getattr(model.config, "initializer_range", 0.02)
        self.blocks_name = f"model.{find_blocks(model)}"

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks of the model."""
        blocks = self.get_submodule(self.blocks_name)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def vocab_size(self) -> int:
        """Number of rows of the table of word embeddings. It may be more than the tokenizer has tokens."""
        return self.model.config.vocab_size

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that the model takes, in tokens. None if it has only relative positions."""
        config = self.model.config
        if getattr(config, "position_biased_input", True) is False:
            return None
        return getattr(config, "max_position_embeddings", 0) - self.position_offset or None

    @property
    def position_offset(self) -> int:
        """The position id of the first token: padding_idx + 1 in families like RoBERTa, 0 in the others."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else padding + 1

    def depth_of(self, name: str) -> int:
        """The depth of the parameter ``name``: 0 for embeddings, r for block r, ``num_layers`` + 1 above the blocks.

        Parameters that all blocks read, such as those of relative positions, have depth 0.
        """
        block = re.match(rf"{re.escape(self.blocks_name)}\.(\d+)\.", name)
        if block:
            return int(block[1]) + 1
        return self.num_layers + 1 if name.startswith(ABOVE_BLOCKS) else 0

    def is_new(self, name: str) -> bool:
        """Whether the weight ``name`` of the model is trained beside an adapter: one of a pooler that is new."""
        return self.adapter is not None and self.pooler_source == "fresh" and name.startswith("pooler.")

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Writes the model in Hugging Face format, for ``AutoModel.from_pretrained``.

        ``weights`` maps names to tensors. Default: the weights of the model. The file holds the names of the model
        itself, also if transformers converted older names (such as LayerNorm.gamma) when it loaded the model.
        """
        with quiet():
            self.model.save_pretrained(folder, state_dict=weights, save_original_format=False)
